//! WebAssembly plugins from text: for guests that no honest compiler would make.

use std::fs;

use super::Plugins;

impl Plugins {
    /// Adds a plugin made from the text of a module or component, with more lines in its manifest.
    pub(crate) fn add_wat(&self, name: &str, text: &str, manifest: &str) {
        let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.add_wasm(name, &bytes, manifest);
    }

    /// Adds a plugin of these bytes.
    pub(crate) fn add_wasm(&self, name: &str, bytes: &[u8], manifest: &str) {
        let dir = self.path().join(name);
        fs::create_dir_all(&dir).expect("a directory for the plugin");
        fs::write(dir.join("plugin.wasm"), bytes).expect("the plugin");
        let head = format!("name = {name:?}\nentry = \"plugin.wasm\"\n");
        fs::write(dir.join("plugin.toml"), format!("{head}{manifest}\n")).expect("a manifest");
    }
}
