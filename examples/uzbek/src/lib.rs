//! Greets in Uzbek. The same source is a shared library and, through `main.rs`, a program.

use greeter_api::{GreetError, Greeter, check_name};

struct Uzbek;

impl Greeter for Uzbek {
    fn greet(&self, name: String) -> Result<String, GreetError> {
        check_name(&name)?;
        Ok(format!("Salom, {name}!"))
    }
}

jackfield_plugin::export!(Uzbek: Greeter, capabilities: ["greeting@1", "batch@2", "polite@1"]);
