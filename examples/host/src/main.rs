//! Greets somebody through every greeter in a directory: `greeter-host DIR [NAME]`.

use std::error::Error;

use greeter_api::Greeter;
use jackfield::{Client, Host};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: greeter-host DIR [NAME]")?;
    let name = arguments.next().unwrap_or_else(|| "Ada".to_owned());

    let host = Host::builder().plugin_dir(dir).build_blocking()?;
    for greeter in host.all::<dyn Greeter>() {
        println!("{}: {}", Client::plugin(&greeter).name(), greeter.blocking().greet(name.clone())?);
    }
    for refused in host.refused() {
        eprintln!("refused: {refused}");
    }
    Ok(())
}
