//! Operations derived from the schema: one for each field with arguments, with valid or invalid values.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};
use serde_json::{Map, Value, json};

/// An operation on one field, whose variables are the field's arguments.
pub struct Probe {
    pub name: String,
    pub query: String,
    /// True for a subscription, which needs a WebSocket.
    pub is_subscription: bool,
    arguments: Vec<InputValueDefinition>,
    /// The field's name, which decides the meaning of an argument named `id`.
    field: String,
}

/// Ids that exist on the server, by the names of arguments.
pub struct KnownIds {
    pub chat: String,
    pub message: String,
    pub member: String,
    pub user: String,
    pub call: String,
    pub participant: String,
}

/// The types of the server's schema, by name.
pub struct Schema(HashMap<String, TypeKind>);

impl Schema {
    /// Parses the server's schema.
    pub fn read() -> Self {
        let definitions = parse_schema(parlor::graphql::schema::sdl()).expect("a valid schema").definitions;
        let types = definitions.into_iter().filter_map(|definition| match definition {
            TypeSystemDefinition::Type(ty) => Some((ty.node.name.node.to_string(), ty.node.kind)),
            _ => None,
        });
        Self(types.collect())
    }

    /// Returns a probe for each field with arguments, of the root types and of types with an id.
    pub fn probes(&self, known: &KnownIds) -> Vec<Probe> {
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

    /// Returns the selection paths from a type to its scalars and enums through at most this many objects.
    ///
    /// Connections do not count as objects.
    pub fn leaves(&self, ty: &str, objects: usize) -> Vec<Vec<String>> {
        match self.0.get(ty) {
            Some(TypeKind::Union(union)) => {
                let members = union.members.iter().map(|member| member.node.as_str());
                members.flat_map(|member| prefix(&format!("... on {member}"), self.leaves(member, objects))).collect()
            }
            Some(TypeKind::Object(object)) => object
                .fields
                .iter()
                .flat_map(|field| {
                    let (field, ty) = (&field.node, named(&field.node.ty.node));
                    let takes_first = field.arguments.iter().any(|argument| argument.node.name.node == "first");
                    let selection = format!("{}{}", field.name, if takes_first { "(first: 3)" } else { "" });
                    match self.0.get(&ty) {
                        Some(TypeKind::Object(_)) if ty.ends_with("Connection") => {
                            prefix(&selection, self.leaves(&ty, objects))
                        }
                        // A connection's `nodes` cover the fields of its edges.
                        _ if ty.ends_with("Edge") => Vec::new(),
                        Some(TypeKind::Object(_)) if objects == 0 => Vec::new(),
                        Some(TypeKind::Object(_)) => prefix(&selection, self.leaves(&ty, objects - 1)),
                        _ => vec![vec![selection]],
                    }
                })
                .collect(),
            _ => panic!("{ty} has no fields"),
        }
    }

    /// Returns the names of a type's fields.
    pub fn fields(&self, ty: &str) -> Vec<String> {
        self.definitions(ty).iter().map(|field| field.name.to_string()).collect()
    }

    /// Returns the fields of a type with an argument that is or contains an id.
    pub fn fields_with_ids(&self, ty: &str) -> Vec<String> {
        let takes_id =
            |field: &&&FieldDefinition| field.arguments.iter().any(|argument| self.has_id(&argument.node.ty.node));
        self.definitions(ty).iter().filter(takes_id).map(|field| field.name.to_string()).collect()
    }

    /// Returns an operation on a field of a root type, whose variables are the field's arguments.
    pub fn operation(&self, ty: &str, field: &str) -> String {
        let definitions = self.definitions(ty);
        let definition = definitions.iter().find(|definition| definition.name.node == field);
        self.probe(ty, "", definition.unwrap_or_else(|| panic!("{ty} has no field {field}"))).query
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
        let declarations: String =
            arguments.iter().map(|argument| format!("${}: {} ", argument.name, argument.ty.node)).collect();
        let values: String = arguments.iter().map(|argument| format!("{0}: ${0} ", argument.name)).collect();
        let is_leaf = !matches!(
            self.0.get(&named(&field.ty.node)),
            Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_))
        );
        let (declarations, values) = match arguments.is_empty() {
            true => (String::new(), String::new()),
            false => (format!("({declarations})"), format!("({values})")),
        };
        let field_call = format!("{}{values}{}", field.name, if is_leaf { "" } else { " { __typename }" });
        let query = match ty {
            "Query" | "Mutation" | "Subscription" => format!("{}{declarations} {{ {field_call} }}", ty.to_lowercase()),
            ty => format!("query{declarations} {{ node(id: \"{id}\") {{ ... on {ty} {{ {field_call} }} }} }}"),
        };
        Probe {
            name: format!("{ty}.{}", field.name),
            query,
            is_subscription: ty == "Subscription",
            arguments,
            field: field.name.to_string(),
        }
    }

    /// Returns variables that the operation accepts.
    pub fn valid_variables(&self, probe: &Probe, known: &KnownIds) -> Value {
        probe.arguments.iter().map(|argument| (argument.name.to_string(), self.base(probe, argument, known))).collect()
    }

    /// Returns variables that each have one invalid value, for every argument and field of an input object.
    ///
    /// `invalid` returns the values to try, by the name and the type of an argument or field.
    pub fn invalid_variables(
        &self,
        probe: &Probe,
        known: &KnownIds,
        invalid: &dyn Fn(&str, &str) -> Vec<Value>,
    ) -> Vec<Value> {
        let valid = self.valid_variables(probe, known);
        let mut all = Vec::new();
        for argument in &probe.arguments {
            for value in self.variants(probe, argument.name.node.as_str(), &argument.ty.node, known, invalid) {
                let mut variables = valid.clone();
                variables[argument.name.node.as_str()] = value;
                all.push(variables);
            }
        }
        all
    }

    fn base(&self, probe: &Probe, argument: &InputValueDefinition, known: &KnownIds) -> Value {
        let (name, ty) = (argument.name.node.as_str(), &argument.ty.node);
        match &ty.base {
            _ if ty.nullable && name != "text" => Value::Null,
            BaseType::List(_) => json!([self.scalar(probe, name, &named(ty), known)]),
            BaseType::Named(_) => self.scalar(probe, name, &named(ty), known),
        }
    }

    fn scalar(&self, probe: &Probe, name: &str, ty: &str, known: &KnownIds) -> Value {
        match self.0.get(ty) {
            Some(TypeKind::Enum(values)) => {
                let names: Vec<_> = values.values.iter().map(|value| value.node.value.to_string()).collect();
                json!(names.iter().find(|name| *name == "CHANNEL").unwrap_or(&names[0]))
            }
            Some(TypeKind::InputObject(input)) => {
                let fields = input
                    .fields
                    .iter()
                    .map(|field| (field.node.name.to_string(), self.base(probe, &field.node, known)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            _ => match (ty, name, probe.field.as_str()) {
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
        known: &KnownIds,
        invalid: &dyn Fn(&str, &str) -> Vec<Value>,
    ) -> Vec<Value> {
        if let BaseType::List(item) = &ty.base {
            return self.variants(probe, name, item, known, invalid).into_iter().map(|value| json!([value])).collect();
        }
        let ty = named(ty);
        let Some(TypeKind::InputObject(input)) = self.0.get(&ty) else { return invalid(name, &ty) };
        let valid = self.scalar(probe, name, &ty, known);
        let mut all = Vec::new();
        for field in &input.fields {
            let field = &field.node;
            for value in self.variants(probe, field.name.node.as_str(), &field.ty.node, known, invalid) {
                let mut object = valid.clone();
                object[field.name.node.as_str()] = value;
                all.push(object);
            }
        }
        all
    }
}

/// Prepends a field to each path.
fn prefix(field: &str, leaves: Vec<Vec<String>>) -> Vec<Vec<String>> {
    leaves.into_iter().map(|leaf| [vec![field.to_owned()], leaf].concat()).collect()
}

/// Returns the name of a type without its lists.
fn named(ty: &Type) -> String {
    match &ty.base {
        BaseType::Named(name) => name.to_string(),
        BaseType::List(item) => named(item),
    }
}
