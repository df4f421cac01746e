//! The services of a plugin that no interface describes: found by reflection or in a descriptor set, called
//! with JSON.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::path::Path;

use jackfield_grpc::channel::Channel;
use prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::{v1, v1alpha};

use super::GrpcError;
use crate::mechanism::{MethodInfo, ServiceInfo};

/// Most bytes of descriptors that are taken from a plugin.
const DESCRIPTOR_BYTES_MAX: usize = 16 << 20;
/// Most files of them.
const FILES_MAX: usize = 4096;

/// Services that every plugin has, for its host and for whoever looks; none of them is what it is for.
const COMMON: [&str; 4] = ["grpc.health.", "grpc.reflection.", "plugin.GRPC", "jackfield.plugin."];

/// What a plugin serves.
#[derive(Debug, Default)]
pub(super) struct Services {
    methods: Vec<Vec<MethodDescriptor>>,
    pub(super) info: Vec<ServiceInfo>,
}

impl Services {
    /// Reads a file with a `google.protobuf.FileDescriptorSet`.
    pub(super) fn read(file: &Path) -> Result<Self, GrpcError> {
        let wrong = |what: String| GrpcError::File { file: file.to_owned(), what };
        let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let pool = DescriptorPool::decode(&*bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(Self::of(&pool, |_| true))
    }

    /// Asks the plugin. One without reflection has none.
    pub(super) async fn ask(channel: &Channel) -> Result<Self, GrpcError> {
        let about = |what: String| GrpcError::About { what };
        let reflected = match reflect(channel, Version::V1).await {
            Err(Reflecting::Without) => reflect(channel, Version::V1Alpha).await,
            other => other,
        };
        match reflected {
            Ok((names, files)) => {
                let mut pool = DescriptorPool::new();
                let added = pool.add_file_descriptor_protos(files);
                added.map_err(|error| about(format!("its descriptors, by reflection: {error}")))?;
                Ok(Self::of(&pool, |name| names.contains(name)))
            }
            Err(Reflecting::Without) => Ok(Self::default()),
            Err(Reflecting::Failed(what)) => Err(about(format!("reflection: {what}"))),
        }
    }

    fn of(pool: &DescriptorPool, served: impl Fn(&str) -> bool) -> Self {
        let mut services = Self::default();
        let own = |name: &str| !COMMON.iter().any(|common| name.starts_with(common));
        for service in pool.services().filter(|service| own(service.full_name()) && served(service.full_name())) {
            let method = |method: &MethodDescriptor| MethodInfo {
                name: method.name().to_owned(),
                input: method.input().full_name().to_owned(),
                output: method.output().full_name().to_owned(),
                client_streaming: method.is_client_streaming(),
                server_streaming: method.is_server_streaming(),
            };
            let methods: Vec<_> = service.methods().collect();
            let info = methods.iter().map(method).collect();
            services.info.push(ServiceInfo { name: service.full_name().to_owned(), methods: info });
            services.methods.push(methods);
        }
        services
    }

    pub(super) fn method(&self, service: usize, method: usize) -> Option<&MethodDescriptor> {
        self.methods.get(service)?.get(method)
    }
}

/// A message as JSON, in the mapping of protobuf's own documents; each field, its default included.
pub(super) fn to_json(message: &DynamicMessage) -> Result<Value, String> {
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}

/// The message that JSON means.
pub(super) fn from_json(descriptor: MessageDescriptor, value: Value) -> Result<DynamicMessage, String> {
    let name = descriptor.full_name().to_owned();
    let fields: Vec<_> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(descriptor, value, &options).map_err(|error| {
        let has = if fields.is_empty() { "no fields".to_owned() } else { fields.join(", ") };
        format!("it is no `{name}` (which has {has}): {error}")
    })
}

/// Messages whose type is known only now.
#[derive(Clone)]
pub(super) struct Dynamic {
    pub(super) answer: MessageDescriptor,
}

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let read = DynamicMessage::decode(self.answer.clone(), from);
        read.map(Some).map_err(|error| Status::data_loss(format!("no `{}`: {error}", self.answer.full_name())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

#[derive(Clone, Copy)]
enum Version {
    V1,
    V1Alpha,
}

enum Reflecting {
    /// The plugin does not serve it.
    Without,
    Failed(String),
}

impl From<Status> for Reflecting {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unimplemented => Reflecting::Without,
            code => Reflecting::Failed(format!("{} ({})", status.message(), super::status::name(code))),
        }
    }
}

/// The names of the services, and the files that describe them.
async fn reflect(
    channel: &Channel,
    version: Version,
) -> Result<(BTreeSet<String>, Vec<FileDescriptorProto>), Reflecting> {
    let failed = |what: &str| Reflecting::Failed(what.to_owned());
    let mut conversation = Conversation::begin(channel, version).await?;
    let MessageResponse::ListServicesResponse(list) = conversation.answer().await? else {
        return Err(failed("another answer than was asked for"));
    };
    let names: BTreeSet<String> = list.service.into_iter().map(|service| service.name).collect();
    let mut asked = HashSet::new();
    let mut files: Vec<FileDescriptorProto> = Vec::new();
    let mut wanted: VecDeque<MessageRequest> =
        names.iter().cloned().map(MessageRequest::FileContainingSymbol).collect();
    let mut bytes = 0;
    while let Some(request) = wanted.pop_front() {
        conversation.ask(request)?;
        match conversation.answer().await? {
            MessageResponse::FileDescriptorResponse(found) => {
                for encoded in found.file_descriptor_proto {
                    bytes += encoded.len();
                    if bytes > DESCRIPTOR_BYTES_MAX || files.len() >= FILES_MAX {
                        return Err(failed("its descriptors are larger than 16 MiB"));
                    }
                    let file = FileDescriptorProto::decode(&*encoded);
                    let file = file.map_err(|error| Reflecting::Failed(format!("a broken descriptor: {error}")))?;
                    if !files.iter().any(|known| known.name == file.name) {
                        files.push(file);
                    }
                }
            }
            // A service that is served and not described.
            MessageResponse::ErrorResponse(_) => continue,
            _ => return Err(failed("another answer than was asked for")),
        }
        // What a file stands on may have come with it, or has to be asked for.
        let have: HashSet<&str> = files.iter().filter_map(|file| file.name.as_deref()).collect();
        for needed in files.iter().flat_map(|file| &file.dependency) {
            if !have.contains(&**needed) && asked.insert(needed.clone()) {
                wanted.push_back(MessageRequest::FileByFilename(needed.clone()));
            }
        }
    }
    Ok((names, files))
}

/// Questions and answers over one stream.
struct Conversation {
    questions: mpsc::UnboundedSender<MessageRequest>,
    answers: Answers,
}

enum Answers {
    V1(tonic::Streaming<ServerReflectionResponse>),
    V1Alpha(tonic::Streaming<v1alpha::ServerReflectionResponse>),
}

impl Conversation {
    /// Begins by asking for the list of services: Go answers nothing, not even that it listens, before it is
    /// asked something.
    async fn begin(channel: &Channel, version: Version) -> Result<Self, Reflecting> {
        let (questions, asked) = mpsc::unbounded_channel();
        let _ = questions.send(MessageRequest::ListServices(String::new()));
        let asked = UnboundedReceiverStream::new(asked);
        let answers = match version {
            Version::V1 => {
                let asked = tokio_stream::StreamExt::map(asked, |question| ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(question),
                });
                let mut client = ServerReflectionClient::new(channel.clone());
                Answers::V1(client.server_reflection_info(asked).await?.into_inner())
            }
            Version::V1Alpha => {
                let asked = tokio_stream::StreamExt::map(asked, |question| v1alpha::ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(alpha_request(question)),
                });
                let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel.clone());
                Answers::V1Alpha(client.server_reflection_info(asked).await?.into_inner())
            }
        };
        Ok(Self { questions, answers })
    }

    fn ask(&self, question: MessageRequest) -> Result<(), Reflecting> {
        let gone = |_| Reflecting::Failed("it ended the conversation".to_owned());
        self.questions.send(question).map_err(gone)
    }

    async fn answer(&mut self) -> Result<MessageResponse, Reflecting> {
        let answer = match &mut self.answers {
            Answers::V1(answers) => answers.message().await?.and_then(|answer| answer.message_response),
            Answers::V1Alpha(answers) => {
                answers.message().await?.and_then(|answer| answer.message_response).and_then(from_alpha)
            }
        };
        answer.ok_or_else(|| Reflecting::Failed("it ended the conversation".to_owned()))
    }
}

fn alpha_request(request: MessageRequest) -> v1alpha::server_reflection_request::MessageRequest {
    use v1alpha::server_reflection_request::MessageRequest as Alpha;
    match request {
        MessageRequest::FileContainingSymbol(symbol) => Alpha::FileContainingSymbol(symbol),
        MessageRequest::FileByFilename(name) => Alpha::FileByFilename(name),
        _ => Alpha::ListServices(String::new()),
    }
}

fn from_alpha(response: v1alpha::server_reflection_response::MessageResponse) -> Option<MessageResponse> {
    use v1alpha::server_reflection_response::MessageResponse as Alpha;
    Some(match response {
        Alpha::FileDescriptorResponse(found) => MessageResponse::FileDescriptorResponse(v1::FileDescriptorResponse {
            file_descriptor_proto: found.file_descriptor_proto,
        }),
        Alpha::ListServicesResponse(list) => {
            let service = |service: v1alpha::ServiceResponse| v1::ServiceResponse { name: service.name };
            let service = list.service.into_iter().map(service).collect();
            MessageResponse::ListServicesResponse(v1::ListServiceResponse { service })
        }
        Alpha::ErrorResponse(error) => MessageResponse::ErrorResponse(v1::ErrorResponse {
            error_code: error.error_code,
            error_message: error.error_message,
        }),
        Alpha::AllExtensionNumbersResponse(_) => return None,
    })
}
