use std::sync::Arc;

use wasmtime::{Config, Instance, Store};

use super::*;
use crate::wasm::compile::{CompileError, Origin, code};

const LONG: Duration = Duration::from_secs(60);

/// A module that exports `answer`, which gives `number`.
fn module(number: i32) -> Arc<[u8]> {
    let text = format!(r#"(module (func (export "answer") (result i32) i32.const {number}))"#);
    wat::parse_str(text).expect("a module").into()
}

fn compiled(engine: &Engine, wasm: &[u8]) -> Code {
    Code::Module(Module::from_binary(engine, wasm).expect("compiled"))
}

/// What the code answers when it is run.
fn answer(engine: &Engine, code: &Code) -> i32 {
    let mut store = Store::new(engine, ());
    let name = "answer";
    match code {
        Code::Module(module) => {
            let instance = Instance::new(&mut store, module, &[]).expect("an instance");
            instance
                .get_typed_func::<(), i32>(&mut store, name)
                .expect("there")
                .call(&mut store, ())
                .expect("an answer")
        }
        Code::Component(component) => {
            let linker = wasmtime::component::Linker::new(engine);
            let instance = linker.instantiate(&mut store, component).expect("an instance");
            let function = instance.get_typed_func::<(), (i32,)>(&mut store, name).expect("there");
            function.call(&mut store, ()).expect("an answer").0
        }
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    engine: Engine,
    wasm: Arc<[u8]>,
}

impl Fixture {
    /// A cache that keeps the module whose answer is 42.
    fn filled() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let fixture = Self { directory, engine: Engine::default(), wasm: module(42) };
        fixture.place().store(&compiled(&fixture.engine, &fixture.wasm));
        fixture
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("wasm")
    }

    fn cache(&self) -> Cache {
        Cache::open(self.path(), 1 << 20)
    }

    fn place(&self) -> Place {
        self.cache().place(&self.engine, Shape::Module, &self.wasm).expect("a place")
    }

    fn answer(&self) -> Option<i32> {
        self.place().load(&self.engine).map(|code| answer(&self.engine, &code))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn what_was_compiled_is_found_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = Cache::open(directory.path().join("deep/wasm"), BYTES_MAX);
    let engine = Engine::default();
    let component = r#"(component
        (core module $m (func (export "answer") (result i32) i32.const 43))
        (core instance $i (instantiate $m))
        (func (export "answer") (result s32) (canon lift (core func $i "answer"))))"#;
    let component = wat::parse_str(component).expect("a component").into();
    for (shape, wasm, expected) in [(Shape::Module, module(42), 42), (Shape::Component, component, 43)] {
        for from_cache in [false, true, true] {
            let made = code(&engine, shape, Arc::clone(&wasm), &cache, LONG).await;
            let (code, origin) = made.expect("code");
            assert_eq!((origin == Origin::Cached, answer(&engine, &code)), (from_cache, expected));
        }
    }
}

#[test]
fn a_file_with_one_bit_changed_is_not_run_and_is_replaced() {
    let fixture = Fixture::filled();
    let place = fixture.place();
    let whole = fs::read(&place.file).expect("a file");
    let positions = (0..HEADER_BYTES * 2).chain((HEADER_BYTES * 2..whole.len()).step_by(101)).chain([whole.len() - 1]);
    for (bit, position) in positions.enumerate() {
        let mut changed = whole.clone();
        changed[position] ^= 1 << (bit % 8);
        fs::write(&place.file, changed).expect("written");
        assert!(place.load(&fixture.engine).is_none(), "byte {position} of {}", whole.len());
    }
    place.store(&compiled(&fixture.engine, &fixture.wasm));
    assert_eq!(fixture.answer(), Some(42));
}

#[test]
fn a_file_of_another_length_is_not_run() {
    let fixture = Fixture::filled();
    let place = fixture.place();
    let whole = fs::read(&place.file).expect("a file");
    for length in (0..whole.len()).rev().step_by(53).chain(0..HEADER_BYTES * 2) {
        fs::write(&place.file, &whole[..length]).expect("written");
        assert!(place.load(&fixture.engine).is_none(), "{length} of {} bytes", whole.len());
    }
    fs::write(&place.file, [&*whole, b"\0"].concat()).expect("written");
    assert!(place.load(&fixture.engine).is_none(), "one byte more");
    fs::write(&place.file, &whole).expect("written");
    assert_eq!(fixture.answer(), Some(42));
}

#[test]
fn a_file_under_the_name_of_another_is_not_run() {
    let fixture = Fixture::filled();
    let fuelled = Engine::new(Config::new().consume_fuel(true)).expect("an engine");
    let places = [
        // Another engine, as of another version of wasmtime; another module; another shape.
        fixture.cache().place(&fuelled, Shape::Module, &fixture.wasm),
        fixture.cache().place(&fixture.engine, Shape::Module, &module(43)),
        fixture.cache().place(&fixture.engine, Shape::Component, &fixture.wasm),
    ];
    for place in places {
        let place = place.expect("a place");
        assert_ne!(place.file, fixture.place().file);
        fs::copy(fixture.place().file, &place.file).expect("copied");
        assert!(place.load(&fuelled).is_none());
        assert!(place.load(&fixture.engine).is_none());
    }
}

/// Bytes with a right MAC that wasmtime does not know, as from a build of it with the same version.
#[test]
fn what_wasmtime_itself_refuses_is_compiled_again() {
    let fixture = Fixture::filled();
    let place = fixture.place();
    let payload = b"not what this wasmtime serializes";
    fs::write(&place.file, [&place.header(payload)[..], payload].concat()).expect("written");
    assert!(place.load(&fixture.engine).is_none());
}

#[test]
#[cfg(unix)]
fn a_secret_that_others_can_read_is_replaced_with_all_that_was_written_with_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let fixture = Fixture::filled();
    let secret = fixture.path().join(SECRET);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode(&secret), mode(&fixture.path()), mode(&fixture.place().file)), (0o600, 0o700, 0o600));
    let before = fs::read(&secret).expect("a secret");
    for exposed in [0o604, 0o640, 0o602] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(exposed)).expect("set");
        assert_eq!(fixture.answer(), None, "{exposed:o}");
        assert_eq!(mode(&secret), 0o600);
        assert_ne!(fs::read(&secret).expect("a secret"), before);
        fixture.place().store(&compiled(&fixture.engine, &fixture.wasm));
        assert_eq!(fixture.answer(), Some(42));
    }
    fs::write(&secret, "short").expect("written");
    assert_eq!(fixture.answer(), None);
    assert_eq!(fs::read(&secret).expect("a secret").len(), 32);
}

#[tokio::test]
#[cfg(unix)]
async fn a_directory_that_is_open_to_others_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;

    let fixture = Fixture::filled();
    for exposed in [0o755, 0o770, 0o701] {
        fs::set_permissions(fixture.path(), fs::Permissions::from_mode(exposed)).expect("set");
        assert!(fixture.cache().place(&fixture.engine, Shape::Module, &fixture.wasm).is_none(), "{exposed:o}");
        let made = code(&fixture.engine, Shape::Module, Arc::clone(&fixture.wasm), &fixture.cache(), LONG).await;
        let (code, origin) = made.expect("compiled");
        assert!(matches!(origin, Origin::Compiled { .. }));
        assert_eq!(answer(&fixture.engine, &code), 42);
    }
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o700)).expect("set");
    assert_eq!(fixture.answer(), Some(42));
}

#[tokio::test]
async fn a_cache_that_cannot_be_made_is_done_without() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("file"), "").expect("a file");
    let cache = Cache::open(directory.path().join("file/wasm"), BYTES_MAX);
    let made: Result<_, CompileError> = code(&Engine::default(), Shape::Module, module(1), &cache, LONG).await;
    assert!(matches!(made.expect("compiled").1, Origin::Compiled { .. }));
}

#[test]
fn hosts_that_begin_at_once_agree_on_a_secret() {
    for _ in 0..20 {
        let fixture = Fixture { directory: tempfile::tempdir().expect("a directory"), ..Fixture::filled() };
        let code = compiled(&fixture.engine, &fixture.wasm);
        let begin = std::sync::Barrier::new(4);
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let host = || {
                begin.wait();
                let place = fixture.place();
                place.store(&code);
                assert_eq!(place.load(&fixture.engine).map(|code| answer(&fixture.engine, &code)), Some(42));
                place.secret.0
            };
            let hosts = [(); 4].map(|()| scope.spawn(host));
            hosts.map(|host| host.join().expect("no panic")).to_vec()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(fixture.answer(), Some(42));
        assert_eq!(fixture.files().len(), 2, "{:?}", fixture.files());
    }
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let fixture = Fixture::filled();
    let length = fs::metadata(fixture.place().file).expect("a file").len();
    let cache = Cache::open(fixture.path(), length * 3 + length / 2);
    let place = |number| cache.place(&fixture.engine, Shape::Module, &module(number)).expect("a place");
    let aged = |number, hours: u64| {
        let file = File::options().write(true).open(place(number).file).expect("a file");
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).expect("set");
    };
    for (number, hours) in [(42, 9), (1, 8), (2, 7)] {
        place(number).store(&compiled(&fixture.engine, &module(number)));
        aged(number, hours);
    }
    assert!(place(42).load(&fixture.engine).is_some(), "used now");
    place(3).store(&compiled(&fixture.engine, &module(3)));
    let kept = [42, 1, 2, 3].map(|number| place(number).file.exists());
    assert_eq!(kept, [true, false, true, true]);
    // What is larger than the whole cache replaces nothing.
    let small = Cache::open(fixture.path(), length / 2);
    small
        .place(&fixture.engine, Shape::Module, &module(4))
        .expect("a place")
        .store(&compiled(&fixture.engine, &module(4)));
    assert_eq!([42, 2, 3, 4].map(|number| place(number).file.exists()), [true, true, true, false]);
}

#[test]
fn what_a_writer_left_is_removed_in_time() {
    let fixture = Fixture::filled();
    for (name, age) in [("old", PARTIAL_AGE_MAX * 2), ("new", Duration::ZERO)] {
        let file = File::create(fixture.path().join(format!("{name}.{PARTIAL}"))).expect("a file");
        file.set_modified(SystemTime::now() - age).expect("set");
    }
    fixture.place().store(&compiled(&fixture.engine, &fixture.wasm));
    let files = fixture.files();
    assert!(files.contains(&"new.partial".to_owned()) && !files.contains(&"old.partial".to_owned()), "{files:?}");
}
