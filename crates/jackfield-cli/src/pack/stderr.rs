//! Extism's log as lines on WASI's stderr: `[ERROR] what happened`, as a program writes them.
//!
//! The SDK logs a text by asking for a block (`alloc`), filling it and handing it over (`log_error`), one
//! text at a time. Here the block is always the same one: some pages of the module's own memory, taken
//! when they are first needed, and again when a text is longer than all before.
//!
//! | offset in the pages | |
//! |---|---|
//! | 0 | what `blocking-write-and-flush` answers, 12 bytes |
//! | 24 | the prefix, which ends where the text begins |
//! | 32 | the text, then a line's end |

use wasm_encoder::{BlockType, ConstExpr, Function, GlobalSection, GlobalType, MemArg, ValType};

/// Where the text begins.
const TEXT: u32 = 32;

/// Most bytes that WASI takes at once.
const WRITE_BYTES_MAX: i32 = 4096;

/// The texts that are longer would not be for a log; and no sum below can overflow.
const TEXT_BYTES_MAX: i64 = 1 << 30;

/// Where the pieces are, in the indices of the new module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stderr {
    /// `get-stderr: func() -> i32`
    pub(super) get_stderr: u32,
    /// `[method]output-stream.blocking-write-and-flush: func(i32, i32, i32, i32)`
    pub(super) write: u32,
    /// The first of the globals that [`Self::globals`] adds.
    pub(super) globals: u32,
    /// The function that [`Self::line`] makes: `func(text: i32, prefix: i64, skip: i32)`.
    pub(super) line: u32,
}

/// What stands at the beginning of a line, in eight bytes; of the shorter ones the first is not written.
const PREFIXES: [(&str, &[u8; 8], i32); 5] = [
    ("log_error", b"[ERROR] ", 0),
    ("log_warn", b" [WARN] ", 1),
    ("log_info", b" [INFO] ", 1),
    ("log_debug", b"[DEBUG] ", 0),
    ("log_trace", b"[TRACE] ", 0),
];

impl Stderr {
    /// What of Extism's functions has a body here, and its type; every other one traps.
    pub(super) const KNOWN: [(&str, &[ValType], &[ValType]); 8] = [
        ("alloc", &[ValType::I64], &[ValType::I64]),
        ("store_u8", &[ValType::I64, ValType::I32], &[]),
        ("store_u64", &[ValType::I64, ValType::I64], &[]),
        ("log_error", &[ValType::I64], &[]),
        ("log_warn", &[ValType::I64], &[]),
        ("log_info", &[ValType::I64], &[]),
        ("log_debug", &[ValType::I64], &[]),
        ("log_trace", &[ValType::I64], &[]),
    ];

    fn pages_at(self) -> u32 {
        self.globals
    }

    fn pages_size(self) -> u32 {
        self.globals + 1
    }

    fn text_len(self) -> u32 {
        self.globals + 2
    }

    /// The handle of stderr, or −1 before the first line.
    fn stream(self) -> u32 {
        self.globals + 3
    }

    fn is_closed(self) -> u32 {
        self.globals + 4
    }

    pub(super) fn globals(section: &mut GlobalSection) {
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        for value in [0, 0, 0, -1, 0] {
            section.global(ty, &ConstExpr::i32_const(value));
        }
    }

    /// The body of one of Extism's functions.
    pub(super) fn body(self, name: &str) -> Function {
        if let Some((_, prefix, skip)) = PREFIXES.iter().find(|(log, ..)| *log == name) {
            let mut body = Function::new([]);
            let mut code = body.instructions();
            code.local_get(0).i32_wrap_i64().i64_const(i64::from_le_bytes(**prefix)).i32_const(*skip);
            code.call(self.line).end();
            return body;
        }
        match name {
            "alloc" => self.alloc(),
            "store_u8" => {
                let mut body = Function::new([]);
                body.instructions().local_get(0).i32_wrap_i64().local_get(1).i32_store8(at(0)).end();
                body
            }
            "store_u64" => {
                let mut body = Function::new([]);
                body.instructions().local_get(0).i32_wrap_i64().local_get(1).i64_store(at(0)).end();
                body
            }
            _ => trap(),
        }
    }

    /// Makes sure of the room, and gives where the text goes.
    fn alloc(self) -> Function {
        let (need, pages, grown) = (1, 2, 3);
        let mut body = Function::new([(3, ValType::I32)]);
        let mut code = body.instructions();
        code.local_get(0).i64_const(TEXT_BYTES_MAX).i64_gt_u().if_(BlockType::Empty).unreachable().end();
        code.local_get(0).i32_wrap_i64().global_set(self.text_len());
        // The last store is eight bytes wide, and a line's end follows the text.
        code.global_get(self.text_len()).i32_const(TEXT as i32 + 16).i32_add().local_set(need);
        code.local_get(need).global_get(self.pages_size()).i32_gt_u().if_(BlockType::Empty);
        code.local_get(need).i32_const(0xffff).i32_add().i32_const(16).i32_shr_u().local_tee(pages);
        code.memory_grow(0).local_tee(grown).i32_const(-1).i32_eq().if_(BlockType::Empty).unreachable().end();
        code.local_get(grown).i32_const(16).i32_shl().global_set(self.pages_at());
        code.local_get(pages).i32_const(16).i32_shl().global_set(self.pages_size()).end();
        code.global_get(self.pages_at()).i32_const(TEXT as i32).i32_add().i64_extend_i32_u().end();
        body
    }

    /// Writes a line, unless stderr is closed.
    pub(super) fn line(self) -> Function {
        let (text, prefix, skip) = (0, 1, 2);
        let (from, left, chunk) = (3, 4, 5);
        let mut body = Function::new([(3, ValType::I32)]);
        let mut code = body.instructions();
        code.global_get(self.is_closed()).if_(BlockType::Empty).return_().end();
        code.local_get(text).i32_const(8).i32_sub().local_get(prefix).i64_store(at(0));
        code.local_get(text).global_get(self.text_len()).i32_add().i32_const(i32::from(b'\n')).i32_store8(at(0));
        code.local_get(text).i32_const(8).i32_sub().local_get(skip).i32_add().local_set(from);
        code.global_get(self.text_len()).i32_const(9).i32_add().local_get(skip).i32_sub().local_set(left);
        code.global_get(self.stream()).i32_const(-1).i32_eq().if_(BlockType::Empty);
        code.call(self.get_stderr).global_set(self.stream()).end();
        code.loop_(BlockType::Empty);
        code.local_get(left).i32_const(WRITE_BYTES_MAX);
        code.local_get(left).i32_const(WRITE_BYTES_MAX).i32_lt_u().select().local_set(chunk);
        code.global_get(self.stream()).local_get(from).local_get(chunk).global_get(self.pages_at()).call(self.write);
        // The answer is a `result`: 1 is an error, after which nothing more is written.
        code.global_get(self.pages_at()).i32_load8_u(at(0)).if_(BlockType::Empty);
        code.i32_const(1).global_set(self.is_closed()).return_().end();
        code.local_get(from).local_get(chunk).i32_add().local_set(from);
        code.local_get(left).local_get(chunk).i32_sub().local_tee(left).br_if(0);
        code.end().end();
        body
    }
}

/// A function that nobody calls in a component.
pub(super) fn trap() -> Function {
    let mut body = Function::new([]);
    body.instructions().unreachable().end();
    body
}

fn at(offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index: 0 }
}
