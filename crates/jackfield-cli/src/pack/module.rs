//! The core module inside a component: read, checked, and written again with other imports and exports.
//!
//! In the new module's functions come: the imports of WASI, a body for each of Extism's imports, the
//! functions of the old module, then the writer of lines and the entries. So the number of every old
//! function grows by the number of new imports, and by nothing else.

use std::collections::HashMap;
use std::convert::Infallible;

use anyhow::{Context as _, Result, bail};
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, ImportSection,
    TypeSection, ValType,
};
use wasmparser::{
    CodeSectionReader, Encoding, ExportSectionReader, ExternalKind, FuncType, FunctionSectionReader,
    GlobalSectionReader, ImportSectionReader, Parser, Payload, TypeRef, TypeSectionReader,
};
use wit_parser::abi::WasmType;

use super::stderr::{Stderr, trap};
use super::world::{TRACING, World};
use super::{BUILD, unfit};

/// A module that the SDK made.
pub(super) struct Module<'a> {
    bytes: &'a [u8],
    /// Extism's functions, in order, each with its type's number.
    imports: Vec<(&'a str, u32)>,
    types: Vec<Option<FuncType>>,
    functions: u32,
    globals: u32,
    call: u32,
    realloc: u32,
    free: u32,
    tracing: Option<Tracing>,
}

/// The functions of [`TRACING`](super::world::TRACING), which are those of the module as they are.
struct Tracing {
    begin: u32,
    spans: u32,
}

const INVALID: &str = "it is no valid module";

/// What the component needs that was not in the module: WASI's functions.
const IMPORTS: [(&str, &str, &[ValType], &[ValType]); 2] = [
    ("wasi:cli/stderr@0.2.0", "get-stderr", &[], &[ValType::I32]),
    (
        "wasi:io/streams@0.2.0",
        "[method]output-stream.blocking-write-and-flush",
        &[ValType::I32, ValType::I32, ValType::I32, ValType::I32],
        &[],
    ),
];

impl<'a> Module<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(b"\0asm") {
            let begins: String = bytes.iter().take(8).map(|byte| byte.escape_ascii().to_string()).collect();
            return Err(unfit(format!("it is no WebAssembly: it begins with `{begins}`"), BUILD));
        }
        let mut imports = Vec::new();
        let mut types = Vec::new();
        let mut exports = HashMap::new();
        let (mut functions, mut globals) = (0, 0);
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.context(INVALID)? {
                Payload::Version { encoding: Encoding::Component, .. } => bail!("it is a component already"),
                Payload::TypeSection(section) => {
                    for group in section {
                        types.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(ty) => Some(ty),
                            _ => None,
                        }));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(ty) if import.module == "extism:host/env" => imports.push((import.name, ty)),
                            _ => return Err(foreign(import.module, import.name)),
                        }
                    }
                }
                Payload::FunctionSection(section) => functions = section.count(),
                Payload::GlobalSection(section) => globals = section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        exports.insert(export.name, (export.kind, export.index));
                    }
                }
                _ => {}
            }
        }
        let function = |name: &str| match exports.get(name) {
            Some((ExternalKind::Func, index)) => Ok(*index),
            _ if exports.contains_key("jackfield_abi") => Err(unfit(
                format!("it exports no function `{name}`"),
                "build it with the SDK of this command's version",
            )),
            _ => Err(unfit("it was not built with the SDK for Rust: it exports no `jackfield_abi`", BUILD)),
        };
        if !matches!(exports.get("memory"), Some((ExternalKind::Memory, 0))) {
            return Err(unfit("it exports no memory", BUILD));
        }
        let call = function("jackfield_canonical_call")?;
        let realloc = function("jackfield_canonical_realloc")?;
        let free = function("jackfield_canonical_free")?;
        // A module of an SDK before these has no spans to give.
        let tracing = match (function("jackfield_canonical_trace"), function("jackfield_canonical_spans")) {
            (Ok(begin), Ok(spans)) => Some(Tracing { begin, spans }),
            _ => None,
        };
        Ok(Self { bytes, imports, types, functions, globals, call, realloc, free, tracing })
    }

    /// Whether it takes the trace of a call and gives spans.
    pub(super) fn traces(&self) -> bool {
        self.tracing.is_some()
    }

    /// The module with an entry for each function of the world, and no Extism.
    pub(super) fn with_entries(&self, world: &World) -> Result<Vec<u8>> {
        for (name, params, results) in Stderr::KNOWN {
            let imported = self.imports.iter().find(|(import, _)| *import == name);
            let ty = imported.and_then(|(_, ty)| self.types.get(*ty as usize)?.as_ref());
            if ty.is_some_and(|ty| !is_of_type(ty, params, results)) {
                bail!("it imports `{name}` with a type that is not Extism's");
            }
        }
        let added = IMPORTS.len() as u32;
        let olds = self.imports.len() as u32 + self.functions;
        let stderr = Stderr { get_stderr: 0, write: 1, globals: self.globals, line: added + olds };
        let mut rewriter = Rewriter { module: self, world, stderr, added };
        let mut written = wasm_encoder::Module::new();
        rewriter.parse_core_module(&mut written, Parser::new(0), self.bytes).context("it cannot be written again")?;
        Ok(written.finish())
    }
}

fn foreign(module: &str, name: &str) -> anyhow::Error {
    let hint = match module {
        "wasi_snapshot_preview1" => BUILD,
        _ => "a component of the SDK has no imports of its own",
    };
    unfit(format!("it imports `{name}` from `{module}`"), hint)
}

fn is_of_type(ty: &FuncType, params: &[ValType], results: &[ValType]) -> bool {
    let same = |found: &[wasmparser::ValType], wanted: &[ValType]| {
        found.iter().map(|ty| ValType::try_from(*ty).ok()).eq(wanted.iter().map(|ty| Some(*ty)))
    };
    same(ty.params(), params) && same(ty.results(), results)
}

struct Rewriter<'a> {
    module: &'a Module<'a>,
    world: &'a World,
    stderr: Stderr,
    /// How many imports are new.
    added: u32,
}

type Rewritten = Result<(), reencode::Error<Infallible>>;

/// Types that are added, after those of the module: two of the imports, that of a line, that of freeing,
/// then one for each entry.
const TYPE_OF_LINE: u32 = 2;
const TYPE_OF_POST: u32 = 3;
const TYPE_OF_ENTRY: u32 = 4;

impl Rewriter<'_> {
    fn first_type(&self) -> u32 {
        self.module.types.len() as u32
    }

    /// Entries whose result is in memory, which is to be freed.
    fn freeing(&self) -> impl Iterator<Item = &super::world::Entry> {
        self.world.entries.iter().filter(|entry| entry.signature.retptr)
    }

    /// How many functions free a result: one for each such entry, and one for the spans.
    fn posts(&self) -> usize {
        self.freeing().count() + usize::from(self.module.traces())
    }

    fn entry(&self, entry: &super::world::Entry) -> Function {
        let mut body = Function::new([]);
        let mut code = body.instructions();
        code.i32_const(entry.interface as i32).i32_const(entry.function as i32);
        for (param, ty) in (0..).zip(&entry.signature.params) {
            code.local_get(param);
            match core(*ty) {
                ValType::I64 => {}
                ValType::F32 => _ = code.i32_reinterpret_f32().i64_extend_i32_u(),
                ValType::F64 => _ = code.i64_reinterpret_f64(),
                _ => _ = code.i64_extend_i32_u(),
            }
        }
        for _ in entry.signature.params.len()..wit_parser::Resolve::MAX_FLAT_PARAMS {
            code.i64_const(0);
        }
        code.call(self.added + self.module.call);
        match entry.signature.results.first().map(|ty| core(*ty)) {
            None => _ = code.drop(),
            Some(ValType::I64) => {}
            Some(ValType::F32) => _ = code.i32_wrap_i64().f32_reinterpret_i32(),
            Some(ValType::F64) => _ = code.f64_reinterpret_i64(),
            Some(_) => _ = code.i32_wrap_i64(),
        }
        code.end();
        body
    }

    /// What frees the result of an entry.
    fn post(&self) -> Function {
        let mut body = Function::new([]);
        body.instructions().call(self.added + self.module.free).end();
        body
    }
}

fn core(ty: WasmType) -> ValType {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    }
}

impl Reencode for Rewriter<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Infallible>> {
        Ok(function + self.added)
    }

    fn parse_type_section(&mut self, types: &mut TypeSection, section: TypeSectionReader<'_>) -> Rewritten {
        utils::parse_type_section(self, types, section)?;
        for (_, _, params, results) in IMPORTS {
            types.ty().function(params.iter().copied(), results.iter().copied());
        }
        types.ty().function([ValType::I32, ValType::I64, ValType::I32], []);
        types.ty().function([ValType::I32], []);
        for entry in &self.world.entries {
            let core = |types: &[WasmType]| types.iter().map(|ty| core(*ty)).collect::<Vec<_>>();
            types.ty().function(core(&entry.signature.params), core(&entry.signature.results));
        }
        Ok(())
    }

    fn parse_import_section(&mut self, imports: &mut ImportSection, _: ImportSectionReader<'_>) -> Rewritten {
        for ((module, name, ..), ty) in IMPORTS.into_iter().zip(self.first_type()..) {
            imports.import(module, name, EntityType::Function(ty));
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Rewritten {
        for (_, ty) in &self.module.imports {
            functions.function(*ty);
        }
        utils::parse_function_section(self, functions, section)?;
        let first = self.first_type();
        functions.function(first + TYPE_OF_LINE);
        for (_, ty) in self.world.entries.iter().zip(first + TYPE_OF_ENTRY..) {
            functions.function(ty);
        }
        for _ in 0..self.posts() {
            functions.function(first + TYPE_OF_POST);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, section: CodeSectionReader<'_>) -> Rewritten {
        for (name, _) in &self.module.imports {
            let known = Stderr::KNOWN.iter().any(|(known, ..)| known == name);
            code.function(&if known { self.stderr.body(name) } else { trap() });
        }
        utils::parse_code_section(self, code, section)?;
        code.function(&self.stderr.line());
        for entry in &self.world.entries {
            code.function(&self.entry(entry));
        }
        for _ in 0..self.posts() {
            code.function(&self.post());
        }
        Ok(())
    }

    fn parse_global_section(&mut self, globals: &mut GlobalSection, section: GlobalSectionReader<'_>) -> Rewritten {
        utils::parse_global_section(self, globals, section)?;
        Stderr::globals(globals);
        Ok(())
    }

    fn parse_export_section(&mut self, exports: &mut ExportSection, _: ExportSectionReader<'_>) -> Rewritten {
        exports.export("memory", ExportKind::Memory, 0);
        exports.export("cabi_realloc", ExportKind::Func, self.added + self.module.realloc);
        let mut next = self.stderr.line + 1..;
        for (entry, index) in self.world.entries.iter().zip(&mut next) {
            exports.export(&entry.name, ExportKind::Func, index);
        }
        for (entry, index) in self.freeing().zip(&mut next) {
            exports.export(&format!("cabi_post_{}", entry.name), ExportKind::Func, index);
        }
        if let (Some(Tracing { begin, spans }), Some(post)) = (&self.module.tracing, next.next()) {
            let [begin_name, spans_name] = ["begin", "spans"].map(|function| format!("{TRACING}#{function}"));
            exports.export(&begin_name, ExportKind::Func, self.added + begin);
            exports.export(&spans_name, ExportKind::Func, self.added + spans);
            exports.export(&format!("cabi_post_{spans_name}"), ExportKind::Func, post);
        }
        Ok(())
    }
}
