use expect_test::{Expect, expect};

use super::*;

/// Files to lay out: a path with `/`, then what is in it. `*` before a path makes it executable; a
/// path ending in `/` is an empty directory.
type Files<'a> = &'a [(&'a str, &'a str)];

/// What is found in the directories `dirs` and at the paths `explicit`, below a new directory.
fn check_all(files: Files<'_>, dirs: &[&str], explicit: &[&str], expected: Expect) {
    let root = tempfile::tempdir().expect("a directory");
    lay_out(root.path(), files);
    let below = |paths: &[&str]| paths.iter().map(|path| root.path().join(path)).collect::<Vec<_>>();
    let discovery = discover(&below(dirs), &below(explicit));
    expected.assert_eq(&described(&discovery, root.path()));
}

/// What is found in the directory `a`.
fn check(files: Files<'_>, expected: Expect) {
    check_all(files, &["a"], &[], expected);
}

fn lay_out(root: &Path, files: Files<'_>) {
    for (name, content) in files {
        let path = root.join(name.trim_start_matches('*'));
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("a directory");
            continue;
        }
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, content).expect("a file");
        #[cfg(unix)]
        if name.starts_with('*') {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
    }
}

fn described(discovery: &Discovery, root: &Path) -> String {
    let mut text = String::new();
    for Found { manifest, source } in &discovery.found {
        let bare = if matches!(source, Source::Bare(_)) { " (bare)" } else { "" };
        let (name, mechanism) = (&manifest.name, manifest.mechanism);
        text += &format!("{name}: {mechanism} {} from {}{bare}\n", manifest.entry.display(), source.path().display());
    }
    for Refused { name, path, reason } in &discovery.refused {
        text += &format!("{name} refused: {}: {reason}\n", path.display());
    }
    for Shadowed { name, path, by } in &discovery.shadowed {
        text += &format!("{name} shadowed: {} by {}\n", path.display(), by.display());
    }
    text.replace(&format!("{}/", root.display()), "")
}

const RESIZE: &str = "name = 'resize'\nentry = 'run'\n";
const RESIZE_JSON: &str = r#"{"name": "resize", "entry": "run"}"#;

#[test]
#[cfg(target_os = "linux")]
fn a_file_is_a_plugin_when_it_is_called_like_a_library_or_is_executable() {
    check(
        &[
            ("a/libResize_fast.so", ""),
            ("a/crop.so.1.2", ""),
            ("*a/greet.py", "#!/usr/bin/python3"),
            ("*a/shout", ""),
            ("a/README.md", ""),
            ("a/.hidden.so", ""),
            ("a/docs/page.md", ""),
            ("a/empty/", ""),
        ],
        expect![[r#"
            crop: native a/crop.so.1.2 from a/crop.so.1.2 (bare)
            greet: process a/greet.py from a/greet.py (bare)
            resize-fast: native a/libResize_fast.so from a/libResize_fast.so (bare)
            shout: process a/shout from a/shout (bare)
        "#]],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_only_looks_like_a_plugin_is_refused_with_the_reason() {
    check(
        &[
            ("a/greet.py", "#!/usr/bin/python3"),
            ("a/resize.dll", ""),
            ("a/libcrop.dylib", ""),
            ("*a/my plugin", ""),
            ("a/lib.so", ""),
        ],
        expect![[r#"
            lib: native a/lib.so from a/lib.so (bare)
            crop refused: a/libcrop.dylib: a `.dylib` file is a library of macos; this platform is linux
            greet refused: a/greet.py: begins with `#!`, but is not executable
            my plugin refused: a/my plugin: "my plugin" is not a plugin's name: 1 to 64 of `a` to `z`, `0` to `9` and `-`, the first not `-`
            resize refused: a/resize.dll: a `.dll` file is a library of windows; this platform is linux
        "#]],
    );
}

#[test]
fn a_wasm_file_is_a_plugin_executable_or_not() {
    check(
        &[
            ("a/Hello_world.wasm", ""),
            ("*a/greet.wasm", "#!/usr/bin/python3"),
            ("a/notes.wasm.txt", ""),
            ("a/.hidden.wasm", ""),
            ("a/one/plugin.toml", "name = 'one'\nentry = 'two.wasm'"),
            ("a/one/two.wasm", ""),
            ("a/my plugin.wasm", ""),
        ],
        expect![[r#"
            greet: wasm a/greet.wasm from a/greet.wasm (bare)
            hello-world: wasm a/Hello_world.wasm from a/Hello_world.wasm (bare)
            one: wasm a/one/two.wasm from a/one/plugin.toml
            my plugin refused: a/my plugin.wasm: "my plugin" is not a plugin's name: 1 to 64 of `a` to `z`, `0` to `9` and `-`, the first not `-`
        "#]],
    );
}

#[test]
fn a_manifest_makes_a_plugin_of_its_directory() {
    check(
        &[
            ("a/one/plugin.toml", RESIZE),
            ("a/one/run", ""),
            ("a/two/plugin.json", &RESIZE_JSON.replace("resize", "crop")),
            ("a/two/run", ""),
            ("a/both/plugin.toml", RESIZE),
            ("a/both/plugin.json", RESIZE_JSON),
            ("a/wrong/plugin.toml", "name = 'wrong'\nentri = 'run'"),
        ],
        expect![[r#"
            crop: process a/two/run from a/two/plugin.json
            resize: process a/one/run from a/one/plugin.toml
            both refused: a/both: has both a `plugin.toml` and a `plugin.json`
            wrong refused: a/wrong: a/wrong/plugin.toml:2:1: unknown key `entri`; did you mean `entry`?
        "#]],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_manifest_in_the_directory_itself_is_a_plugin_and_its_entry_is_not_another_one() {
    check(
        &[("a/plugin.toml", RESIZE), ("*a/run", ""), ("*a/shout", "")],
        expect![[r#"
        resize: process a/run from a/plugin.toml
        shout: process a/shout from a/shout (bare)
    "#]],
    );
    check(
        &[("a/plugin.toml", RESIZE), ("a/plugin.json", RESIZE_JSON), ("*a/run", "")],
        expect![[r#"
        run: process a/run from a/run (bare)
        a refused: a: has both a `plugin.toml` and a `plugin.json`
    "#]],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn the_path_then_the_earlier_directory_then_the_higher_version_then_the_first_name_wins() {
    let version = |version: &str| format!("{RESIZE}version = '{version}'");
    check_all(
        &[
            ("a/old/plugin.toml", &version("1.9.0")),
            ("a/old/run", ""),
            ("a/new/plugin.toml", &version("1.10.0")),
            ("a/new/run", ""),
            ("a/none/plugin.toml", RESIZE),
            ("a/none/run", ""),
            ("a/libresize.so", ""),
            ("a/libcrop.so", ""),
            ("*a/crop", ""),
            ("b/resize/plugin.toml", &version("2.0.0")),
            ("b/resize/run", ""),
            ("b/shout.so", ""),
            ("c/shout.so", ""),
        ],
        &["a", "b"],
        &["c/shout.so"],
        expect![[r#"
            crop: process a/crop from a/crop (bare)
            resize: process a/new/run from a/new/plugin.toml
            shout: native c/shout.so from c/shout.so (bare)
            crop shadowed: a/libcrop.so by a/crop
            resize shadowed: a/old/plugin.toml by a/new/plugin.toml
            resize shadowed: a/none/plugin.toml by a/new/plugin.toml
            resize shadowed: a/libresize.so by a/new/plugin.toml
            resize shadowed: b/resize/plugin.toml by a/new/plugin.toml
            shout shadowed: b/shout.so by c/shout.so
        "#]],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_plugin_that_is_met_twice_does_not_shadow_itself() {
    check_all(
        &[("a/one/plugin.toml", RESIZE), ("a/one/run", ""), ("a/shout.so", "")],
        &["a", "a/../a"],
        &["a/shout.so", "a/one", "a/one/plugin.toml"],
        expect![[r#"
            resize: process a/one/run from a/one/plugin.toml
            shout: native a/shout.so from a/shout.so (bare)
        "#]],
    );
}

#[test]
#[cfg(unix)]
fn a_chain_of_links_to_one_library_is_one_plugin() {
    let root = tempfile::tempdir().expect("a directory");
    lay_out(root.path(), &[("a/libx.so.1.2", "")]);
    for (link, target) in [("libx.so", "libx.so.1"), ("libx.so.1", "libx.so.1.2"), ("liby.so", "gone.so")] {
        std::os::unix::fs::symlink(target, root.path().join("a").join(link)).expect("a link");
    }
    let discovery = discover(&[root.path().join("a")], &[]);
    expect![[r#"
        x: native a/libx.so from a/libx.so (bare)
        y refused: a/liby.so: cannot be read
    "#]]
    .assert_eq(&described(&discovery, root.path()));
}

#[test]
fn what_is_given_by_path_is_a_plugin_or_refused() {
    check_all(
        &[("a/readme.md", ""), ("a/one/plugin.toml", RESIZE), ("a/one/run", "")],
        &[],
        &["a/one", "a/readme.md", "a", "a/gone"],
        expect![[r#"
            resize: process a/one/run from a/one/plugin.toml
            a refused: a: neither a library, nor a program, nor WebAssembly, nor a directory with a manifest
            gone refused: a/gone: cannot be read
            readme refused: a/readme.md: neither a library, nor a program, nor WebAssembly, nor a directory with a manifest
        "#]],
    );
}

#[test]
fn a_directory_that_is_missing_or_is_none_is_refused_and_the_others_are_not() {
    check_all(
        &[("a/one/plugin.toml", RESIZE), ("a/one/run", ""), ("file", "")],
        &["gone", "file", "a"],
        &[],
        expect![[r#"
            resize: process a/one/run from a/one/plugin.toml
            file refused: file: cannot be read
            gone refused: gone: cannot be read
        "#]],
    );
}
