//! Greets in English. The same source is a shared library and, through `main.rs`, a program.

use greeter_api::{GreetError, Greeter, check_name};

struct English;

impl Greeter for English {
    fn greet(&self, name: String) -> Result<String, GreetError> {
        check_name(&name)?;
        Ok(format!("Hello, {name}!"))
    }
}

jackfield_plugin::export!(English: Greeter, capabilities: ["greeting@1", "batch@2", "polite@1"]);
