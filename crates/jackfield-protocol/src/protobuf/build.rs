//! An interface laid out in protobuf: what is a message, what needs one around it, and what is called how.
//!
//! Names go to the service first, then to the interface's types, to requests and responses, and to wrappers;
//! whoever comes late to a name has it with a number. Names of messages do not cross the wire.
//!
//! Not here: which numbers are taken (`lock.rs`), how names are spelled (`name.rs`).

use std::collections::{HashMap, HashSet};

use super::layout::{Enum, EnumValue, Field, Form, Item, Layout, Message, Method, Scalar, Slot};
use super::lock::{Lock, Member};
use super::{SchemaError, name};
use crate::interface::{Function, Interface};
use crate::types::{TypeDef, TypeRef};

impl Layout {
    /// Lays out a sound interface under a lock that knows it whole.
    pub(super) fn new(interface: &Interface, lock: &Lock) -> Result<Self, SchemaError> {
        let mut builder = Builder {
            interface,
            lock,
            messages: Vec::new(),
            messages_named: 0,
            enums: Vec::new(),
            named: HashMap::new(),
            wrappers: HashMap::new(),
            taken: HashSet::new(),
            values_taken: HashSet::new(),
        };
        let package = name::package(&interface.id);
        let service = builder.take_name(&name::upper_camel(&interface.id.name));
        builder.name_types();
        let methods = builder.methods(&format!("/{package}.{service}/"));
        builder.define_types();
        let (messages, enums) = (builder.messages, builder.enums);
        let file = format!("{}/{}.proto", package.replace('.', "/"), name::snake(&interface.id.name));
        let layout = Self { file, package, service, methods, messages, enums };
        layout.check_depth()?;
        Ok(layout)
    }
}

/// What a name of the interface became.
#[derive(Clone, Copy)]
enum Named {
    Message(usize),
    Enum(usize),
    Flags(usize),
}

struct Builder<'a> {
    interface: &'a Interface,
    lock: &'a Lock,
    messages: Vec<Message>,
    /// Records and variants of the interface.
    messages_named: usize,
    enums: Vec<Enum>,
    named: HashMap<&'a str, (Named, String)>,
    wrappers: HashMap<TypeRef, usize>,
    /// Names of messages, enums and the service, which are in one namespace.
    taken: HashSet<String>,
    /// Names of enum values, which stand beside their enums and not in them.
    values_taken: HashSet<String>,
}

impl<'a> Builder<'a> {
    /// The name, or with the first number from 2 that makes it free.
    fn take_name(&mut self, wanted: &str) -> String {
        free(&mut self.taken, wanted, "")
    }

    /// The interface's types have their names before what is generated does.
    fn name_types(&mut self) {
        for (of, definition) in &self.interface.types {
            let name = self.take_name(&name::upper_camel(of));
            // Messages have their positions when they are defined, behind those of the functions.
            let named = match definition {
                TypeDef::Enum(names) => Named::Enum(self.define_enum(of, &name, "enum", names)),
                TypeDef::Flags(names) => Named::Flags(self.define_enum(of, &name, "flags", names)),
                TypeDef::Record(_) | TypeDef::Variant(_) => {
                    self.messages_named += 1;
                    Named::Message(2 * self.interface.functions.len() + self.messages_named - 1)
                }
            };
            self.named.insert(of, (named, name));
        }
    }

    fn define_enum(&mut self, of: &str, name: &str, kind: &str, names: &[String]) -> usize {
        let prefix = name::shouting(of);
        let mut spell = |name: &str| free(&mut self.values_taken, &format!("{prefix}_{}", name::shouting(name)), "_");
        let unspecified = spell("unspecified");
        let locked = Locked::new(self.lock.members(of));
        let value =
            |value: &String| EnumValue { name: value.clone(), spelled: spell(value), number: locked.number(value) };
        let values: Vec<_> = names.iter().map(value).collect();
        let reserved =
            locked.gone(names.iter().map(String::as_str)).map(|(number, name)| (number, spell(name))).collect();
        let (name, docs) = (name.to_owned(), format!("{kind} `{of}`"));
        self.enums.push(Enum { name, of: of.to_owned(), docs, unspecified, values, reserved });
        self.enums.len() - 1
    }

    /// Lays out requests and responses. They are the first messages.
    fn methods(&mut self, path: &str) -> Vec<Method> {
        let interface = self.interface;
        // Their positions, and those of the interface's types, are known before what they wrap is.
        self.messages.resize_with(2 * interface.functions.len() + self.messages_named, Message::placeholder);
        let names: Vec<_> = interface
            .functions
            .iter()
            .map(|function| {
                let rpc = name::upper_camel(&function.name);
                let names = ["Request", "Response"].map(|end| self.take_name(&format!("{rpc}{end}")));
                (rpc, names)
            })
            .collect();
        let mut methods = Vec::with_capacity(names.len());
        for (at, (function, (rpc, [request, response]))) in interface.functions.iter().zip(names).enumerate() {
            let fields = function.params.iter().map(|param| (&*param.name, &param.ty));
            let locked = Locked::new(self.lock.params(&function.name));
            let of = format!("The arguments of `{}`", function.name);
            self.messages[2 * at] = self.record(request, of, &locked, fields);
            self.messages[2 * at + 1] = self.response(response, function);
            methods.push(Method {
                path: format!("{path}{rpc}"),
                rpc,
                docs: function.docs.clone(),
                idempotent: function.idempotent,
                request: 2 * at,
                response: 2 * at + 1,
            });
        }
        methods
    }

    fn response(&mut self, name: String, function: &'a Function) -> Message {
        let of = format!("The answer of `{}`", function.name);
        match &function.result {
            Some(TypeRef::Result(ok, err)) => self.result(name, of, ok, err),
            Some(plain) => {
                let field = Field::new("value", 1, self.slot(plain));
                Message::new(name, of, Form::Wrapper, vec![field])
            }
            None => Message::new(name, of, Form::Wrapper, Vec::new()),
        }
    }

    fn define_types(&mut self) {
        let interface = self.interface;
        for (of, definition) in &interface.types {
            let Some((Named::Message(position), name)) = self.named.get(&**of).cloned() else { continue };
            let locked = Locked::new(self.lock.members(of));
            let docs = format!("{} `{of}`", definition.kind());
            self.messages[position] = match definition {
                TypeDef::Record(fields) => {
                    self.record(name, docs, &locked, fields.iter().map(|field| (&*field.name, &field.ty)))
                }
                TypeDef::Variant(cases) => {
                    let fields = cases.iter().map(|case| {
                        let item = case.ty.as_ref().map_or(Item::Empty, |ty| self.item(ty));
                        Field::new(&case.name, locked.number(&case.name), Slot::Single(item))
                    });
                    let mut message = Message::new(name, docs, Form::Variant, fields.collect());
                    message.reserved = locked.reserved(&message.fields);
                    message
                }
                TypeDef::Enum(_) | TypeDef::Flags(_) => continue,
            };
        }
    }

    fn record<'f>(
        &mut self,
        name: String,
        of: String,
        locked: &Locked<'_>,
        fields: impl Iterator<Item = (&'f str, &'f TypeRef)>,
    ) -> Message {
        let fields = fields.map(|(name, ty)| Field::new(name, locked.number(name), self.slot(ty))).collect();
        let mut message = Message::new(name, of, Form::Record, fields);
        message.reserved = locked.reserved(&message.fields);
        message
    }

    fn result(&mut self, name: String, of: String, ok: &TypeRef, err: &TypeRef) -> Message {
        let ok = Field::new("ok", 1, Slot::Single(self.item(ok)));
        let err = Field::new("err", 2, Slot::Single(self.item(err)));
        Message::new(name, of, Form::Result, vec![ok, err])
    }

    fn slot(&mut self, ty: &TypeRef) -> Slot {
        match ty {
            TypeRef::Option(some) => Slot::Optional { some: self.item(some), wrapped: some.is_nullable() },
            TypeRef::List(item) => Slot::List(self.item(item)),
            TypeRef::Map(key, value) => match Scalar::of(key) {
                Some(key) => Slot::Map { key, value: self.item(value) },
                // A sound interface has keys of scalars.
                None => Slot::Single(self.item(ty)),
            },
            TypeRef::Named(name) => match self.named.get(&**name) {
                Some((Named::Flags(position), _)) => Slot::Flags(*position),
                _ => Slot::Single(self.item(ty)),
            },
            _ => Slot::Single(self.item(ty)),
        }
    }

    /// The type as what one field carries: wrapped where protobuf has no list of lists, and the like.
    fn item(&mut self, ty: &TypeRef) -> Item {
        if let Some(scalar) = Scalar::of(ty) {
            return Item::Scalar(scalar);
        }
        match ty {
            TypeRef::Tuple(items) if items.is_empty() => Item::Empty,
            TypeRef::Named(name) => match self.named.get(&**name) {
                Some((Named::Message(position), _)) => Item::Message(*position),
                Some((Named::Enum(position), _)) => Item::Enum(*position),
                Some((Named::Flags(_), _)) => Item::Message(self.wrapper(ty)),
                // A sound interface defines what it names.
                None => Item::Empty,
            },
            _ => Item::Message(self.wrapper(ty)),
        }
    }

    /// The message that is made for a type without a name.
    fn wrapper(&mut self, ty: &TypeRef) -> usize {
        if let Some(known) = self.wrappers.get(ty) {
            return *known;
        }
        let wanted = self.words(ty);
        let name = self.take_name(&wanted);
        let position = self.messages.len();
        self.messages.push(Message::placeholder());
        self.wrappers.insert(ty.clone(), position);
        let of = format!("`{ty}`");
        self.messages[position] = match ty {
            TypeRef::Result(ok, err) => self.result(name, of, ok, err),
            TypeRef::Tuple(items) => {
                let fields = items.iter().zip(1_u32..).map(|(ty, number)| {
                    let mut field = Field::new(&(number - 1).to_string(), number, self.slot(ty));
                    field.spelled = format!("f{}", field.name);
                    field
                });
                let fields = fields.collect();
                Message::new(name, of, Form::Tuple, fields)
            }
            ty => {
                let field = match ty {
                    TypeRef::Option(_) => "value",
                    TypeRef::Map(..) => "entries",
                    _ => "items",
                };
                let field = Field::new(field, 1, self.slot(ty));
                Message::new(name, of, Form::Wrapper, vec![field])
            }
        };
        position
    }

    /// A name for a type: `list<option<u8>>` is a `U8OptionList`.
    fn words(&self, ty: &TypeRef) -> String {
        match ty {
            TypeRef::Bytes => "Bytes".to_owned(),
            TypeRef::List(item) => self.words(item) + "List",
            TypeRef::Option(some) => self.words(some) + "Option",
            TypeRef::Map(key, value) => self.words(key) + &self.words(value) + "Map",
            TypeRef::Result(ok, err) => self.words(ok) + &self.words(err) + "Result",
            TypeRef::Tuple(items) if items.is_empty() => "Empty".to_owned(),
            TypeRef::Tuple(items) => items.iter().map(|item| self.words(item)).collect::<String>() + "Tuple",
            TypeRef::Named(name) => match self.named.get(&**name) {
                Some((Named::Flags(_), name)) => format!("{name}Set"),
                Some((_, name)) => name.clone(),
                None => name::upper_camel(name),
            },
            primitive => name::upper_camel(&primitive.to_string()),
        }
    }
}

/// `wanted`, or what comes of it with the first number from 2 behind `joint` that nobody has.
fn free(taken: &mut HashSet<String>, wanted: &str, joint: &str) -> String {
    let numbered = (2_u32..).map(|number| format!("{wanted}{joint}{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(|name| taken.insert(name.clone())).unwrap_or_default()
}

/// The members of one message or enum, as the lock has them.
struct Locked<'a> {
    members: &'a [Member],
    numbers: HashMap<&'a str, u32>,
}

impl<'a> Locked<'a> {
    fn new(members: &'a [Member]) -> Self {
        Self { members, numbers: members.iter().map(|member| (&*member.name, member.number)).collect() }
    }

    /// The number of a member. The lock knows them all, which was checked.
    fn number(&self, name: &str) -> u32 {
        self.numbers.get(name).copied().unwrap_or_default()
    }

    /// Members that are locked and no longer there.
    fn gone<'n>(&self, present: impl Iterator<Item = &'n str>) -> impl Iterator<Item = (u32, &'a str)> {
        let present: HashSet<&str> = present.collect();
        let gone = self.members.iter().filter(move |member| !present.contains(&*member.name));
        gone.map(|member| (member.number, &*member.name))
    }

    fn reserved(&self, fields: &[Field]) -> Vec<(u32, String)> {
        let gone = self.gone(fields.iter().map(|field| &*field.name));
        gone.map(|(number, name)| (number, name::snake(name))).collect()
    }
}
