//! The schema as a list of all that a client can put a value into.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};
use serde_json::{Map, Value, json};

/// An operation on one field, and for each of the field's arguments what it may be given.
pub struct Probe {
    pub name: String,
    pub query: String,
    /// Whether it goes over a socket.
    pub subscribes: bool,
    arguments: Vec<InputValueDefinition>,
    /// What an `id` means here.
    subject: String,
}

/// Values that the server knows, by the words that arguments are named with.
pub struct Known {
    pub chat: String,
    pub message: String,
    pub member: String,
    pub user: String,
    pub call: String,
    pub participant: String,
}

pub struct Schema(HashMap<String, TypeKind>);

impl Schema {
    pub fn read() -> Self {
        let definitions = parse_schema(parlor::graphql::schema::sdl()).expect("the schema can be read").definitions;
        let types = definitions.into_iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(ty) => Some((ty.node.name.node.to_string(), ty.node.kind)),
            _ => None,
        });
        Self(types.collect())
    }

    /// Each field with arguments of the root types, and of what has an id.
    pub fn probes(&self, known: &Known) -> Vec<Probe> {
        let mut probes = Vec::new();
        for (ty, id) in [
            ("Query", ""),
            ("Mutation", ""),
            ("Subscription", ""),
            ("Chat", &known.chat),
            ("Message", &known.message),
            ("ChatMember", &known.member),
            ("User", &known.user),
            ("Organization", "org_demo"),
        ] {
            let fields = self.definitions(ty).into_iter().filter(|field| !field.arguments.is_empty());
            probes.extend(fields.map(|field| self.probe(ty, id, field)));
        }
        probes
    }

    /// The ways from a type to each scalar and enum that is at most so many objects away, connections not
    /// counted: the fields as an operation asks for them.
    pub fn leaves(&self, ty: &str, objects: usize) -> Vec<Vec<String>> {
        match self.0.get(ty) {
            Some(TypeKind::Union(union)) => {
                let members = union.members.iter().map(|member| member.node.as_str());
                members.flat_map(|member| through(&format!("... on {member}"), self.leaves(member, objects))).collect()
            }
            Some(TypeKind::Object(object)) => object
                .fields
                .iter()
                .flat_map(|field| {
                    let (field, of) = (&field.node, named(&field.node.ty.node));
                    let takes_first = field.arguments.iter().any(|argument| argument.node.name.node == "first");
                    let asked = format!("{}{}", field.name, if takes_first { "(first: 3)" } else { "" });
                    match self.0.get(&of) {
                        Some(TypeKind::Object(_)) if of.ends_with("Connection") => {
                            through(&asked, self.leaves(&of, objects))
                        }
                        // The same as a connection's nodes.
                        _ if of.ends_with("Edge") => Vec::new(),
                        Some(TypeKind::Object(_)) if objects == 0 => Vec::new(),
                        Some(TypeKind::Object(_)) => through(&asked, self.leaves(&of, objects - 1)),
                        _ => vec![vec![asked]],
                    }
                })
                .collect(),
            _ => panic!("{ty} has no fields"),
        }
    }

    /// The names of a type's fields.
    pub fn fields(&self, ty: &str) -> Vec<String> {
        self.definitions(ty).iter().map(|field| field.name.to_string()).collect()
    }

    /// The fields of a type that take an id, or something with an id in it.
    pub fn fields_with_ids(&self, ty: &str) -> Vec<String> {
        let takes_id = |field: &&&FieldDefinition| field.arguments.iter().any(|given| self.has_id(&given.node.ty.node));
        self.definitions(ty).iter().filter(takes_id).map(|field| field.name.to_string()).collect()
    }

    /// An operation on a field of a root type, whose variables are the field's arguments.
    pub fn operation(&self, ty: &str, field: &str) -> String {
        let definitions = self.definitions(ty);
        let definition = definitions.iter().find(|definition| definition.name.node == field);
        self.probe(ty, "", definition.unwrap_or_else(|| panic!("no field {field} of {ty}"))).query
    }

    fn definitions(&self, ty: &str) -> Vec<&FieldDefinition> {
        let Some(TypeKind::Object(object)) = self.0.get(ty) else { panic!("no type {ty}") };
        object.fields.iter().map(|field| &field.node).collect()
    }

    fn has_id(&self, ty: &Type) -> bool {
        let name = named(ty);
        match self.0.get(&name) {
            Some(TypeKind::InputObject(input)) => input.fields.iter().any(|field| self.has_id(&field.node.ty.node)),
            _ => name == "ID",
        }
    }

    fn probe(&self, ty: &str, id: &str, field: &FieldDefinition) -> Probe {
        let arguments: Vec<_> = field.arguments.iter().map(|argument| argument.node.clone()).collect();
        let declared: String =
            arguments.iter().map(|argument| format!("${}: {} ", argument.name, argument.ty.node)).collect();
        let given: String = arguments.iter().map(|argument| format!("{0}: ${0} ", argument.name)).collect();
        let is_leaf = !matches!(
            self.0.get(&named(&field.ty.node)),
            Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_))
        );
        let (declared, given) = match arguments.is_empty() {
            true => (String::new(), String::new()),
            false => (format!("({declared})"), format!("({given})")),
        };
        let field_call = format!("{}{given}{}", field.name, if is_leaf { "" } else { " { __typename }" });
        let query = match ty {
            "Query" | "Mutation" | "Subscription" => format!("{}{declared} {{ {field_call} }}", ty.to_lowercase()),
            ty => format!("query{declared} {{ node(id: \"{id}\") {{ ... on {ty} {{ {field_call} }} }} }}"),
        };
        Probe {
            name: format!("{ty}.{}", field.name),
            query,
            subscribes: ty == "Subscription",
            arguments,
            subject: field.name.to_string(),
        }
    }

    /// Values that the operation should be happy with.
    pub fn sound(&self, probe: &Probe, known: &Known) -> Value {
        probe.arguments.iter().map(|argument| (argument.name.to_string(), self.base(probe, argument, known))).collect()
    }

    /// The same with one place in them, each in its turn, that holds a value for that place.
    pub fn with(&self, probe: &Probe, known: &Known, bad: &dyn Fn(&str, &str) -> Vec<Value>) -> Vec<Value> {
        let sound = self.sound(probe, known);
        let mut all = Vec::new();
        for argument in &probe.arguments {
            for value in self.variants(probe, argument.name.node.as_str(), &argument.ty.node, known, bad) {
                let mut variables = sound.clone();
                variables[argument.name.node.as_str()] = value;
                all.push(variables);
            }
        }
        all
    }

    fn base(&self, probe: &Probe, argument: &InputValueDefinition, known: &Known) -> Value {
        let (name, ty) = (argument.name.node.as_str(), &argument.ty.node);
        match &ty.base {
            _ if ty.nullable && name != "text" => Value::Null,
            BaseType::List(_) => json!([self.scalar(probe, name, &named(ty), known)]),
            BaseType::Named(_) => self.scalar(probe, name, &named(ty), known),
        }
    }

    fn scalar(&self, probe: &Probe, name: &str, ty: &str, known: &Known) -> Value {
        match self.0.get(ty) {
            Some(TypeKind::Enum(values)) => {
                let words: Vec<_> = values.values.iter().map(|value| value.node.value.to_string()).collect();
                json!(words.iter().find(|word| *word == "CHANNEL").unwrap_or(&words[0]))
            }
            Some(TypeKind::InputObject(input)) => {
                let fields = input
                    .fields
                    .iter()
                    .map(|field| (field.node.name.to_string(), self.base(probe, &field.node, known)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            _ => match (ty, name, probe.subject.as_str()) {
                ("Int", ..) => json!(1),
                ("Float", ..) => json!(1.5),
                ("JSON", ..) => json!({ "type": "offer", "sdp": "v=0" }),
                ("DateTime", "since", _) => json!("2026-01-01T00:00:00Z"),
                ("DateTime", "until", "callStatistics") => json!("2026-02-01T00:00:00Z"),
                ("Boolean", ..) => json!(true),
                (_, "messageId", _) | (_, "id", "message") => json!(known.message),
                (_, "userId" | "userIds" | "memberIds", _) | (_, "id", "user") => json!(known.user),
                (_, "callId", _) | (_, "id", "call") => json!(known.call),
                (_, "participantId" | "fromParticipantId" | "toParticipantId", _) => json!(known.participant),
                (_, "chatId" | "id" | "ids", _) => json!(known.chat),
                (_, "emoji", _) => json!("👍"),
                _ => json!("some words"),
            },
        }
    }

    fn variants(
        &self,
        probe: &Probe,
        name: &str,
        ty: &Type,
        known: &Known,
        bad: &dyn Fn(&str, &str) -> Vec<Value>,
    ) -> Vec<Value> {
        if let BaseType::List(item) = &ty.base {
            return self.variants(probe, name, item, known, bad).into_iter().map(|value| json!([value])).collect();
        }
        let ty = named(ty);
        let Some(TypeKind::InputObject(input)) = self.0.get(&ty) else { return bad(name, &ty) };
        let sound = self.scalar(probe, name, &ty, known);
        let mut all = Vec::new();
        for field in &input.fields {
            let field = &field.node;
            for value in self.variants(probe, field.name.node.as_str(), &field.ty.node, known, bad) {
                let mut object = sound.clone();
                object[field.name.node.as_str()] = value;
                all.push(object);
            }
        }
        all
    }
}

fn through(field: &str, leaves: Vec<Vec<String>>) -> Vec<Vec<String>> {
    leaves.into_iter().map(|leaf| [vec![field.to_owned()], leaf].concat()).collect()
}

fn named(ty: &Type) -> String {
    match &ty.base {
        BaseType::Named(name) => name.to_string(),
        BaseType::List(item) => named(item),
    }
}
