//! The component model's canonical ABI, as an interpreter of an interface's description.
//!
//! `jackfield pack --component` makes a component of a module: each function gets an entry of the
//! type that the canonical ABI demands, and that entry comes here. What came in is written in the
//! binary encoding, the plugin is called as always, and its answer is laid out as a host of components
//! expects it. So a plugin has no code of its own for each of its types.
//!
//! In the binary encoding a map is a list of pairs, an option is a variant of two cases, and so is a
//! result; hence few kinds of types are left ([`Kind`]).
//!
//! Not here: the memory of a module (`wasm/component.rs`), and so nothing unsafe: what is read and
//! written here is bytes.

use jackfield_protocol::{Function, Interface, TypeDef, TypeRef};

/// Parameters of more values than this come as one record in memory.
pub(crate) const FLAT_MAX: usize = 16;

/// The other side of a pointer.
pub(crate) trait Memory {
    /// The bytes that a host has put there.
    fn read(&self, at: u32, len: usize) -> &[u8];

    /// Has bytes stay where they are until the host has read them, and says where.
    fn keep(&mut self, bytes: Vec<u8>) -> u32;
}

/// How a function is called.
#[derive(Debug)]
pub(crate) struct Signature {
    params: Layout,
    result: Option<Layout>,
    has_error: bool,
}

/// A value that no host of components sends: the text says what it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid(&'static str);

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Signature {
    pub(crate) fn of(interface: &Interface, function: &Function) -> Self {
        let params = function.params.iter().map(|param| Layout::of(interface, &param.ty));
        Self {
            params: Layout::record(params.collect()),
            result: function.result.as_ref().map(|ty| Layout::of(interface, ty)),
            has_error: function.err().is_some(),
        }
    }

    /// The arguments in the binary encoding. `slots` are the bits of each value as the canonical ABI
    /// flattens it, or the pointer to all of them.
    pub(crate) fn lift(&self, slots: &[u64; FLAT_MAX], memory: &impl Memory) -> Result<Vec<u8>, Invalid> {
        let mut arguments = Vec::new();
        let mut from = match self.params.flats > FLAT_MAX {
            true => Source::Memory { bytes: memory.read(slots[0] as u32, self.params.size), at: 0 },
            false => Source::Flat { slots, at: 0 },
        };
        self.params.lift(&mut from, memory, &mut arguments)?;
        Ok(arguments)
    }

    /// Begins an answer: what the plugin appends after this is the value of [`Self::lower`].
    pub(crate) fn begin_answer(&self) -> Vec<u8> {
        if self.has_error { vec![0] } else { Vec::new() }
    }

    /// Gives an answer in the binary encoding to the host: the bits of the value if it is a single one,
    /// or else where it is.
    pub(crate) fn lower(&self, mut answer: Vec<u8>, is_error: bool, memory: &mut impl Memory) -> Result<u64, Invalid> {
        let Some(layout) = &self.result else { return Ok(0) };
        if is_error {
            answer[0] = 1;
        }
        let mut laid = Vec::with_capacity(layout.size);
        layout.lower(&mut Encoded(&answer), memory, &mut laid)?;
        match layout.flats {
            // A single value stands at the start of its layout, and is all of it. Nothing looks at the
            // bits above its size.
            0 | 1 => Ok(little_endian(&laid)),
            _ => Ok(memory.keep(laid).into()),
        }
    }
}

/// A type: what it takes in memory, how many values it is flattened to, and what it is made of.
#[derive(Debug)]
struct Layout {
    size: usize,
    align: usize,
    flats: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// `bool`
    Bool,
    /// `u8`, `s8`, `f32`, `f64`: the same bytes in the binary encoding.
    Raw,
    /// A varint in the binary encoding: the other unsigned integers, and flags.
    Unsigned,
    /// A zigzag varint: the other signed integers.
    Signed,
    /// `char`; a string of one in the binary encoding.
    Char,
    /// `string` and `list<u8>`
    Bytes,
    /// Every other list, and maps.
    List(Box<Layout>),
    /// Records and tuples.
    Record(Vec<Layout>),
    /// Variants, enums, options and results. `payload_at` is where a case's value stands.
    Variant { tag_size: usize, payload_at: usize, cases: Vec<Option<Layout>> },
}

impl Layout {
    fn of(interface: &Interface, ty: &TypeRef) -> Self {
        let of = |ty: &TypeRef| Self::of(interface, ty);
        match ty {
            TypeRef::Bool => Self::leaf(1, Kind::Bool),
            TypeRef::S8 | TypeRef::U8 => Self::leaf(1, Kind::Raw),
            TypeRef::F32 => Self::leaf(4, Kind::Raw),
            TypeRef::F64 => Self::leaf(8, Kind::Raw),
            TypeRef::U16 => Self::leaf(2, Kind::Unsigned),
            TypeRef::U32 => Self::leaf(4, Kind::Unsigned),
            TypeRef::U64 => Self::leaf(8, Kind::Unsigned),
            TypeRef::S16 => Self::leaf(2, Kind::Signed),
            TypeRef::S32 => Self::leaf(4, Kind::Signed),
            TypeRef::S64 => Self::leaf(8, Kind::Signed),
            TypeRef::Char => Self::leaf(4, Kind::Char),
            TypeRef::String | TypeRef::Bytes => Self::pointer(Kind::Bytes),
            TypeRef::List(item) => Self::pointer(Kind::List(Box::new(of(item)))),
            TypeRef::Map(key, value) => Self::pointer(Kind::List(Box::new(Self::record(vec![of(key), of(value)])))),
            TypeRef::Option(some) => Self::variant(vec![None, Some(of(some))]),
            TypeRef::Result(ok, err) => {
                let case = |ty: &TypeRef| (*ty != TypeRef::UNIT).then(|| of(ty));
                Self::variant(vec![case(ok), case(err)])
            }
            TypeRef::Tuple(items) => Self::record(items.iter().map(of).collect()),
            TypeRef::Named(name) => match interface.types.get(name) {
                Some(TypeDef::Record(fields)) => Self::record(fields.iter().map(|field| of(&field.ty)).collect()),
                Some(TypeDef::Variant(cases)) => {
                    Self::variant(cases.iter().map(|case| case.ty.as_ref().map(of)).collect())
                }
                Some(TypeDef::Enum(names)) => Self::variant(names.iter().map(|_| None).collect()),
                Some(TypeDef::Flags(names)) => Self::leaf(flags_size(names.len()), Kind::Unsigned),
                // A description that was checked defines every type it names.
                None => Self::record(Vec::new()),
            },
        }
    }

    fn leaf(size: usize, kind: Kind) -> Self {
        Self { size, align: size, flats: 1, kind }
    }

    fn pointer(kind: Kind) -> Self {
        Self { size: 8, align: 4, flats: 2, kind }
    }

    fn record(fields: Vec<Layout>) -> Self {
        let align = fields.iter().map(|field| field.align).max().unwrap_or(1);
        let end = fields.iter().fold(0_usize, |at, field| at.next_multiple_of(field.align) + field.size);
        let flats = fields.iter().map(|field| field.flats).sum();
        Self { size: end.next_multiple_of(align), align, flats, kind: Kind::Record(fields) }
    }

    fn variant(cases: Vec<Option<Layout>>) -> Self {
        let tag_size = match cases.len() {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let payloads = || cases.iter().flatten();
        let payload_align = payloads().map(|payload| payload.align).max().unwrap_or(1);
        let payload_size = payloads().map(|payload| payload.size).max().unwrap_or(0);
        let flats = 1 + payloads().map(|payload| payload.flats).max().unwrap_or(0);
        let align = payload_align.max(tag_size);
        let payload_at = tag_size.next_multiple_of(payload_align);
        let size = (payload_at + payload_size).next_multiple_of(align);
        Self { size, align, flats, kind: Kind::Variant { tag_size, payload_at, cases } }
    }

    fn lift(&self, from: &mut Source<'_>, memory: &impl Memory, out: &mut Vec<u8>) -> Result<(), Invalid> {
        from.align(self.align);
        match &self.kind {
            Kind::Bool => out.push(u8::from(from.take(1) as u8 != 0)),
            Kind::Raw => out.extend_from_slice(&from.take(self.size).to_le_bytes()[..self.size]),
            Kind::Unsigned => write_varint(out, from.take(self.size)),
            Kind::Signed => {
                let unused = 64 - 8 * self.size as u32;
                let value = (from.take(self.size) << unused) as i64 >> unused;
                write_varint(out, (value << 1 ^ value >> 63) as u64);
            }
            Kind::Char => {
                let letter = char::from_u32(from.take(4) as u32).ok_or(Invalid("a `char` that is none"))?;
                let mut utf8 = [0; 4];
                let utf8 = letter.encode_utf8(&mut utf8).as_bytes();
                out.push(utf8.len() as u8);
                out.extend_from_slice(utf8);
            }
            Kind::Bytes => {
                let (at, len) = (from.take(4) as u32, from.take(4));
                write_varint(out, len);
                out.extend_from_slice(memory.read(at, len as usize));
            }
            Kind::List(item) => {
                let (at, len) = (from.take(4) as u32, from.take(4));
                let bytes = (len as usize).checked_mul(item.size).ok_or(Invalid("a list longer than memory"))?;
                write_varint(out, len);
                let mut items = Source::Memory { bytes: memory.read(at, bytes), at: 0 };
                for _ in 0..len {
                    item.lift(&mut items, memory, out)?;
                }
            }
            Kind::Record(fields) => {
                for field in fields {
                    field.lift(from, memory, out)?;
                }
                from.align(self.align);
            }
            Kind::Variant { tag_size, payload_at, cases } => {
                let start = from.position();
                let tag = from.take(*tag_size);
                write_varint(out, tag);
                let case = cases.get(tag as usize).ok_or(Invalid("a variant of no known case"))?;
                if let Some(payload) = case {
                    from.go_to(start + 1, start + payload_at);
                    payload.lift(from, memory, out)?;
                }
                from.go_to(start + self.flats, start + self.size);
            }
        }
        Ok(())
    }

    fn lower(&self, from: &mut Encoded<'_>, memory: &mut impl Memory, out: &mut Vec<u8>) -> Result<(), Invalid> {
        align(out, self.align);
        match &self.kind {
            Kind::Bool | Kind::Raw => out.extend_from_slice(from.take(self.size)?),
            Kind::Unsigned => out.extend_from_slice(&from.varint()?.to_le_bytes()[..self.size]),
            Kind::Signed => {
                let zigzag = from.varint()?;
                let value = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
                out.extend_from_slice(&value.to_le_bytes()[..self.size]);
            }
            Kind::Char => {
                let utf8 = from.bytes()?;
                let letter = std::str::from_utf8(utf8).ok().and_then(|text| text.chars().next());
                let letter = letter.ok_or(Invalid("a `char` that is none"))?;
                out.extend_from_slice(&u32::from(letter).to_le_bytes());
            }
            Kind::Bytes => {
                let bytes = from.bytes()?.to_vec();
                write_list(out, bytes.len(), bytes, memory)?;
            }
            Kind::List(item) => {
                let len = from.varint()? as usize;
                let mut items = Vec::new();
                for _ in 0..len {
                    item.lower(from, memory, &mut items)?;
                }
                write_list(out, len, items, memory)?;
            }
            Kind::Record(fields) => {
                for field in fields {
                    field.lower(from, memory, out)?;
                }
                align(out, self.align);
            }
            Kind::Variant { tag_size, payload_at, cases } => {
                let start = out.len();
                let tag = from.varint()?;
                out.extend_from_slice(&tag.to_le_bytes()[..*tag_size]);
                let case = cases.get(tag as usize).ok_or(Invalid("a variant of no known case"))?;
                if let Some(payload) = case {
                    out.resize(start + payload_at, 0);
                    payload.lower(from, memory, out)?;
                }
                out.resize(start + self.size, 0);
            }
        }
        Ok(())
    }
}

/// What fits a set of so many flags. A component has at most 32 in a set, and none is made with more.
fn flags_size(flags: usize) -> usize {
    match flags {
        0..=8 => 1,
        9..=16 => 2,
        17..=32 => 4,
        _ => 8,
    }
}

/// Where a value comes from: a slot for each flat value, or memory.
enum Source<'a> {
    Flat { slots: &'a [u64], at: usize },
    Memory { bytes: &'a [u8], at: usize },
}

impl Source<'_> {
    /// The bits of the next value of this size; those above it are zero.
    fn take(&mut self, size: usize) -> u64 {
        match self {
            Source::Flat { slots, at } => {
                *at += 1;
                slots[*at - 1] & u64::MAX >> (64 - 8 * size)
            }
            Source::Memory { bytes, at } => {
                *at += size;
                little_endian(&bytes[*at - size..*at])
            }
        }
    }

    fn align(&mut self, align: usize) {
        if let Source::Memory { at, .. } = self {
            *at = at.next_multiple_of(align);
        }
    }

    fn position(&self) -> usize {
        match self {
            Source::Flat { at, .. } | Source::Memory { at, .. } => *at,
        }
    }

    fn go_to(&mut self, slot: usize, byte: usize) {
        match self {
            Source::Flat { at, .. } => *at = slot,
            Source::Memory { at, .. } => *at = byte,
        }
    }
}

/// An answer in the binary encoding. It is our own; what is wrong with it would be a mistake of ours.
struct Encoded<'a>(&'a [u8]);

const CUT: Invalid = Invalid("an answer that ends too early");

impl<'a> Encoded<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Invalid> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Invalid> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CUT)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Invalid> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| CUT)?)
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_list(out: &mut Vec<u8>, len: usize, items: Vec<u8>, memory: &mut impl Memory) -> Result<(), Invalid> {
    let len = u32::try_from(len).map_err(|_| Invalid("a list longer than memory"))?;
    out.extend_from_slice(&memory.keep(items).to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

fn align(out: &mut Vec<u8>, align: usize) {
    out.resize(out.len().next_multiple_of(align), 0);
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::{Expect, expect};
    use jackfield_protocol::{Encoding, Type};

    use super::*;

    /// A memory whose addresses are positions in it. The first eight are nobody's.
    struct Bytes(Vec<u8>);

    impl Bytes {
        fn new() -> Self {
            Bytes(vec![0; 8])
        }
    }

    impl Memory for Bytes {
        fn read(&self, at: u32, len: usize) -> &[u8] {
            &self.0[at as usize..at as usize + len]
        }

        fn keep(&mut self, bytes: Vec<u8>) -> u32 {
            align(&mut self.0, 8);
            let at = self.0.len();
            self.0.extend(bytes);
            at as u32
        }
    }

    /// A function with these parameters, each called by a letter, and this result.
    fn signature(params: &[&str], result: &str) -> Signature {
        let params = params.iter().zip('a'..).map(|(ty, name)| format!(r#"{{"name": "{name}", "type": "{ty}"}}"#));
        let params = params.collect::<Vec<_>>().join(",");
        let json = format!(
            r#"{{"interface": "t:t/t@1.0.0",
                "types": {{
                    "person": {{"record": [{{"name": "age", "type": "u8"}}, {{"name": "id", "type": "u32"}}, {{"name": "name", "type": "string"}}]}},
                    "shape": {{"variant": [{{"name": "point"}}, {{"name": "circle", "type": "f64"}}, {{"name": "box", "type": "tuple<u32, u8>"}}]}},
                    "color": {{"enum": ["red", "green"]}},
                    "perms": {{"flags": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]}}
                }},
                "functions": [{{"name": "f", "params": [{params}], "result": "{result}"}}]}}"#
        );
        let interface = Interface::from_json(&json).expect("a description");
        Signature::of(&interface, &interface.functions[0])
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
    }

    /// The layout of a value, and that it is read back as it was.
    fn check_layout<T: Type>(ty: &str, value: T, expected: Expect) {
        let mut encoded = Vec::new();
        Encoding::Binary.encode(&value, &mut encoded).expect("encoded");
        let layout = signature(&[], ty).result.expect("a result");
        let (mut memory, mut laid) = (Bytes::new(), Vec::new());
        layout.lower(&mut Encoded(&encoded), &mut memory, &mut laid).expect("laid out");
        expected.assert_eq(&format!("{} | {}", hex(&laid), hex(&memory.0[8..])));
        assert_eq!((laid.len(), laid.len() % layout.align), (layout.size, 0));
        let mut again = Vec::new();
        layout.lift(&mut Source::Memory { bytes: &laid, at: 0 }, &memory, &mut again).expect("read");
        assert_eq!(hex(&again), hex(&encoded));
    }

    #[test]
    fn values_are_laid_out_as_the_canonical_abi_says() {
        check_layout("bool", true, expect!["01 | "]);
        check_layout("s16", -2_i16, expect!["fe ff | "]);
        check_layout("s64", i64::MIN, expect!["00 00 00 00 00 00 00 80 | "]);
        check_layout("u64", u64::MAX, expect!["ff ff ff ff ff ff ff ff | "]);
        check_layout("f32", 1.5_f32, expect!["00 00 c0 3f | "]);
        check_layout("char", 'é', expect!["e9 00 00 00 | "]);
        check_layout("string", "héllo".to_owned(), expect!["08 00 00 00 06 00 00 00 | 68 c3 a9 6c 6c 6f"]);
        check_layout("list<u8>", vec![1_u8, 2], expect!["08 00 00 00 02 00 00 00 | 01 02"]);
        check_layout("list<s16>", vec![1_i16, -1], expect!["08 00 00 00 02 00 00 00 | 01 00 ff ff"]);
        check_layout("list<string>", Vec::<String>::new(), expect!["08 00 00 00 00 00 00 00 | "]);
        check_layout(
            "list<tuple<u8, u16>>",
            vec![(1_u8, 2_u16), (3, 4)],
            expect!["08 00 00 00 02 00 00 00 | 01 00 02 00 03 00 04 00"],
        );
        check_layout(
            "map<u8, string>",
            BTreeMap::from([(7_u8, "x".to_owned())]),
            expect!["10 00 00 00 01 00 00 00 | 78 00 00 00 00 00 00 00 07 00 00 00 08 00 00 00 01 00 00 00"],
        );
        check_layout(
            "person",
            (40_u8, 7_u32, "Ada".to_owned()),
            expect!["28 00 00 00 07 00 00 00 08 00 00 00 03 00 00 00 | 41 64 61"],
        );
        check_layout("option<u16>", None::<u16>, expect!["00 00 00 00 | "]);
        check_layout("option<u16>", Some(5_u16), expect!["01 00 05 00 | "]);
        check_layout("option<option<u8>>", Some(None::<u8>), expect!["01 00 00 | "]);
        check_layout(
            "list<result<u64, _>>",
            vec![Ok(1_u64), Err(())],
            expect![
                "08 00 00 00 02 00 00 00 | 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
            ],
        );
        check_layout("perms", 0x101_u64, expect!["01 01 | "]);
    }

    fn check_lift(params: &[&str], slots: &[u64], expected: Expect) {
        expected.assert_eq(&lifted(params, slots));
    }

    fn lifted(params: &[&str], slots: &[u64]) -> String {
        let mut all = [u64::MAX; FLAT_MAX];
        all[..slots.len()].copy_from_slice(slots);
        match signature(params, "_").lift(&all, &Bytes((0..200).collect())) {
            Ok(arguments) => hex(&arguments),
            Err(invalid) => invalid.to_string(),
        }
    }

    #[test]
    fn parameters_come_in_slots() {
        check_lift(&[], &[], expect![""]);
        check_lift(&["u8", "s32", "bool"], &[0x1ff, (-1_i32) as u32 as u64, 2], expect!["ff 01 01"]);
        check_lift(&["string", "u16"], &[65, 3, 300], expect!["03 41 42 43 ac 02"]);
        check_lift(&["person"], &[1, 2, 65, 1], expect!["01 02 01 41"]);
        // A case with fewer values than another leaves slots unread.
        check_lift(&["shape", "u8"], &[0, 9, 9, 5], expect!["00 05"]);
        check_lift(&["shape", "u8"], &[1, 1.5_f64.to_bits(), 9, 5], expect!["01 00 00 00 00 00 00 f8 3f 05"]);
        check_lift(&["shape", "u8"], &[2, 300, 7, 5], expect!["02 ac 02 07 05"]);
        check_lift(&["color", "perms"], &[1, 0x1ff], expect!["01 ff 03"]);
        check_lift(&["char"], &[0x1F980], expect!["04 f0 9f a6 80"]);
    }

    #[test]
    fn many_parameters_are_one_record_in_memory() {
        check_lift(&["u8"; 17], &[32], expect!["20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f 30"]);
        // A byte, a byte that is skipped, and a number of two bytes.
        let mixed: Vec<_> = ["u8", "u16"].into_iter().cycle().take(18).collect();
        let expected = "20 a2 46 24 a6 4e 28 aa 56 2c ae 5e 30 b2 66 34 b6 6e 38 ba 76 3c be 7e 40 c2 86 01";
        assert_eq!(lifted(&mixed, &[32]), expected);
    }

    #[test]
    fn what_no_host_sends_is_refused() {
        check_lift(&["char"], &[0xd800], expect!["a `char` that is none"]);
        check_lift(&["color"], &[2], expect!["a variant of no known case"]);
    }

    #[test]
    fn a_single_value_is_given_as_its_bits_and_others_in_memory() {
        let lowered = |result: &str, answer: &[u8], is_error: bool| {
            let (signature, mut memory) = (signature(&[], result), Bytes::new());
            let mut whole = signature.begin_answer();
            whole.extend(answer);
            let bits = signature.lower(whole, is_error, &mut memory).expect("an answer");
            format!("{bits:x} {}", hex(&memory.0[8..]))
        };
        assert_eq!(lowered("_", &[], false), "0 ");
        assert_eq!(lowered("u32", &[0xac, 0x02], false), "12c ");
        assert_eq!(lowered("s8", &[0xff], false), "ff ");
        assert_eq!(lowered("f64", &1.5_f64.to_le_bytes(), false), "3ff8000000000000 ");
        assert_eq!(lowered("color", &[1], false), "1 ");
        assert_eq!(lowered("result<_, _>", &[], true), "1 ");
        assert_eq!(lowered("string", &[2, 65, 66], false), "10 41 42 00 00 00 00 00 00 08 00 00 00 02 00 00 00");
        assert_eq!(lowered("result<u8, color>", &[7], false), "8 00 07");
        assert_eq!(lowered("result<u8, color>", &[1], true), "8 01 01");
    }
}
