//! Looks at the bytes of a file before any of its code runs.
//!
//! `dlopen` would find most of this out too, but it says less, runs initialisers first, and dies of
//! SIGBUS on a file that was cut short.

use jackfield_protocol::native::{ABI_MAJOR, ABI_MINOR, HEADER_PANIC_ABORT, HEADER_SYMBOL, Header, REGISTER_SYMBOL};
use object::read::{ExportTarget, File, NameOrOrdinal};
use object::{Architecture, BinaryFormat, Object as _, ObjectKind, ObjectSegment as _};

use super::LibraryError;

/// Checks that `bytes` are a complete shared library for this machine that can be a plugin.
pub(super) fn check(bytes: &[u8]) -> Result<(), LibraryError> {
    let refuse = |what: String| Err(LibraryError::NotALibrary { what });
    if bytes.is_empty() {
        return refuse("the file is empty".to_owned());
    }
    let Ok(kind) = object::FileKind::parse(bytes) else {
        return refuse(format!("not a shared library: it starts with {}", start_of(bytes)));
    };
    let file = match File::parse(bytes) {
        Ok(file) => file,
        Err(error) => return refuse(format!("a damaged or truncated library ({kind:?}): {error}")),
    };
    if let Some((host, plugin)) = other_platform(&file) {
        return refuse(format!("built for {plugin}, this host runs on {host}"));
    }
    if file.kind() != ObjectKind::Dynamic {
        return refuse(format!("not a shared library but {}", kind_name(file.kind())));
    }
    let end = file.segments().filter_map(|segment| {
        let (offset, size) = segment.file_range();
        offset.checked_add(size)
    });
    let end = end.max().unwrap_or(0);
    if end > bytes.len() as u64 {
        return refuse(format!("a truncated library: it has {} bytes of {end}", bytes.len()));
    }
    let exports: Vec<_> = match file.exports().and_then(Iterator::collect) {
        Ok(exports) => exports,
        Err(error) => return refuse(format!("a damaged library: {error}")),
    };
    let address = |symbol: &str| {
        exports.iter().find_map(|export| match (export.name(), export.target()) {
            // Mach-O puts an underscore before every name of C.
            (NameOrOrdinal::Name(name), ExportTarget::Address { address })
                if name == symbol.as_bytes() || name.strip_prefix(b"_") == Some(symbol.as_bytes()) =>
            {
                Some(address)
            }
            _ => None,
        })
    };
    if address(REGISTER_SYMBOL).is_none() {
        return refuse(format!("a library without `{REGISTER_SYMBOL}`, so no plugin"));
    }
    match address(HEADER_SYMBOL) {
        Some(address) => check_header(&file, address),
        None => refuse(format!("a library without `{HEADER_SYMBOL}`, so its ABI is not known")),
    }
}

fn check_header(file: &File<'_>, address: u64) -> Result<(), LibraryError> {
    let held =
        file.segments().find_map(|segment| segment.data_range(address, size_of::<Header>() as u64).ok().flatten());
    let Some(header) = held.and_then(Header::read) else {
        let what = format!("`{HEADER_SYMBOL}` is not a header of Jackfield's");
        return Err(LibraryError::NotALibrary { what });
    };
    if header.abi_major != ABI_MAJOR {
        return Err(LibraryError::Abi {
            plugin: format!("{}.{} ({})", header.abi_major, header.abi_minor, header.sdk()),
            host: format!("{ABI_MAJOR}.{ABI_MINOR}"),
        });
    }
    let here = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    if header.target() != here {
        let what = format!("built for {}, this host runs on {here}", header.target());
        return Err(LibraryError::NotALibrary { what });
    }
    if header.flags & HEADER_PANIC_ABORT != 0 {
        return Err(LibraryError::PanicAborts);
    }
    Ok(())
}

/// Host and plugin, when they differ in machine or format.
fn other_platform(file: &File<'_>) -> Option<(String, String)> {
    let format = match std::env::consts::OS {
        "macos" | "ios" => BinaryFormat::MachO,
        "windows" => BinaryFormat::Pe,
        _ => BinaryFormat::Elf,
    };
    let architecture = match file.architecture() {
        Architecture::X86_64 => "x86_64",
        Architecture::Aarch64 => "aarch64",
        Architecture::I386 => "x86",
        Architecture::Arm => "arm",
        Architecture::Riscv64 => "riscv64",
        other => return Some((here(format), format!("{other:?} ({:?})", file.format()))),
    };
    (architecture != std::env::consts::ARCH || file.format() != format)
        .then(|| (here(format), format!("{architecture} ({:?})", file.format())))
}

fn here(format: BinaryFormat) -> String {
    format!("{} ({format:?})", std::env::consts::ARCH)
}

fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Relocatable => "an object file",
        ObjectKind::Executable => "a program",
        ObjectKind::Core => "a core dump",
        _ => "something else",
    }
}

fn start_of(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(24)];
    match std::str::from_utf8(start) {
        Ok(text) => format!("{text:?}"),
        Err(_) => start.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}
