//! What is exported in protobuf, against implementations of protobuf that are not ours: a compiler makes of
//! the text what our descriptor says, and messages that it reads are those that we wrote.

mod file;
mod lock;
mod rules;
mod values;

use jackfield_protocol::Interface;
use jackfield_protocol::protobuf::ProtoSchema;
use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};

fn schema(interface: &Interface) -> ProtoSchema {
    ProtoSchema::new(interface).expect("a schema")
}

fn read(description: &str) -> Interface {
    Interface::from_json(description).unwrap_or_else(|error| panic!("{error}\n{description}"))
}

/// The text compiled; and what comes of it is our descriptor.
fn pool(schema: &ProtoSchema) -> DescriptorPool {
    let text = schema.text();
    let compiled = compile(schema.file_name(), &text);
    let descriptor = schema.file_descriptor();
    let ours = FileDescriptorProto::decode(&*descriptor).expect("a descriptor");
    assert_eq!(ours.encoded_len(), descriptor.len(), "nothing in it is unknown");
    let mut theirs = compiled.file.last().expect("a file").clone();
    theirs.source_code_info = None;
    assert_eq!(ours, theirs, "{text}");
    DescriptorPool::from_file_descriptor_set(compiled).expect("descriptors that fit")
}

fn compile(name: &str, text: &str) -> FileDescriptorSet {
    struct One(protox::file::File);
    impl protox::file::FileResolver for One {
        fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
            match name == self.0.name() {
                true => Ok(self.0.clone()),
                false => Err(protox::Error::file_not_found(name)),
            }
        }
    }
    let file = protox::file::File::from_source(name, text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    let mut resolver = protox::file::ChainFileResolver::new();
    resolver.add(One(file));
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file(name).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    compiler.file_descriptor_set()
}
