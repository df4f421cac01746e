;; The part of Extism's memory that is WebAssembly itself: its bytes, and the functions that guests call once for
;; every eight bytes. What they may reach, the host writes to the header, and nothing but the host:
;;
;;    @0  where the blocks begin     @8  their bytes        @16  of these, where eight bytes can begin
;;   @24  bytes of input            @32  of these, where eight bytes can begin
;;   @40  the input, and behind it the blocks
;;
;; Each access is checked against it, to the byte. A header of zeros admits nothing.
(module $jackfield_extism_memory
  (import "host" "out_of_range" (func $out_of_range (param i64 i32)))
  (import "host" "input_out_of_range" (func $input_out_of_range (param i64 i32)))
  (memory (export "memory") 1)

  (func (export "input_length") (result i64)
    (i64.load offset=24 (i32.const 0)))

  (func (export "input_load_u8") (param $at i64) (result i32)
    (if (i64.ge_u (local.get $at) (i64.load offset=24 (i32.const 0)))
      (then (call $input_out_of_range (local.get $at) (i32.const 1)) (unreachable)))
    (i32.load8_u offset=40 (i32.wrap_i64 (local.get $at))))

  (func (export "input_load_u64") (param $at i64) (result i64)
    (if (i64.ge_u (local.get $at) (i64.load offset=32 (i32.const 0)))
      (then (call $input_out_of_range (local.get $at) (i32.const 8)) (unreachable)))
    (i64.load offset=40 align=1 (i32.wrap_i64 (local.get $at))))

  ;; An offset before the blocks becomes one far behind them.
  (func (export "load_u8") (param $at i64) (result i32)
    (if (i64.ge_u (i64.sub (local.get $at) (i64.load (i32.const 0))) (i64.load offset=8 (i32.const 0)))
      (then (call $out_of_range (local.get $at) (i32.const 1)) (unreachable)))
    (i32.load8_u (i32.wrap_i64 (local.get $at))))

  (func (export "load_u64") (param $at i64) (result i64)
    (if (i64.ge_u (i64.sub (local.get $at) (i64.load (i32.const 0))) (i64.load offset=16 (i32.const 0)))
      (then (call $out_of_range (local.get $at) (i32.const 8)) (unreachable)))
    (i64.load align=1 (i32.wrap_i64 (local.get $at))))

  (func (export "store_u8") (param $at i64) (param $byte i32)
    (if (i64.ge_u (i64.sub (local.get $at) (i64.load (i32.const 0))) (i64.load offset=8 (i32.const 0)))
      (then (call $out_of_range (local.get $at) (i32.const 1)) (unreachable)))
    (i32.store8 (i32.wrap_i64 (local.get $at)) (local.get $byte)))

  (func (export "store_u64") (param $at i64) (param $word i64)
    (if (i64.ge_u (i64.sub (local.get $at) (i64.load (i32.const 0))) (i64.load offset=16 (i32.const 0)))
      (then (call $out_of_range (local.get $at) (i32.const 8)) (unreachable)))
    (i64.store align=1 (i32.wrap_i64 (local.get $at)) (local.get $word))))
