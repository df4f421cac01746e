//! A line that a program wrote to stdout.

#![no_main]

use jackfield_protocol::message::{HelloAnswer, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if let Ok(Message::Answer { result, .. }) = Message::parse(line)
        && let Ok(hello) = serde_json::from_str::<HelloAnswer>(result.get())
    {
        for offer in hello.interfaces {
            let _ = offer.described().cloned().map(jackfield_protocol::Interface::checked);
        }
    }
});
