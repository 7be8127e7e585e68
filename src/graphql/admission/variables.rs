//! Coercion of variables, with the error messages of graphql-js 16.
//!
//! It follows the specification (section 6.1.2). Without it, async-graphql executes `query($n: String!)` although `n`
//! is null, ignores the default value of a variable in `@skip(if: $s)`, and panics at a default value for a list of a
//! type that does not exist.

use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Write},
};

use async_graphql::{
    Name, Pos, Positioned, Value, Variables,
    indexmap::IndexMap,
    parser::{
        parse_schema,
        types::{BaseType, ExecutableDocument, Type, TypeKind, TypeSystemDefinition, VariableDefinition},
    },
};
use serde_json::Number;

/// The greatest number of values in a request's variables, including lists, objects and their contents.
///
/// async-graphql copies the values for each use of a variable.
const MAX_VALUES: usize = 2_000;

/// The greatest number of errors that are reported, which is that of graphql-js.
const MAX_ERRORS: usize = 50;

/// The greatest number of bytes of an invalid value in an error message.
const MAX_PRINTED_BYTES: usize = 200;

/// An invalid variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CoercionError {
    /// The message for the client.
    pub message: String,
    /// The position of the variable's definition in the document.
    pub pos: Pos,
}

/// The input types of a schema.
#[derive(Debug, Clone)]
pub struct InputTypes(HashMap<Name, InputType>);

#[derive(Debug, Clone)]
enum InputType {
    Int,
    Float,
    String,
    Boolean,
    Id,
    /// A custom scalar, which coerces its values itself.
    Scalar,
    Enum(HashSet<Name>),
    Object {
        fields: IndexMap<Name, InputField>,
        /// True if exactly one of the fields must be present: `@oneOf`.
        one_of: bool,
    },
}

#[derive(Debug, Clone)]
struct InputField {
    ty: Type,
    /// True if the schema defines a default value, which async-graphql inserts.
    has_default: bool,
}

impl InputTypes {
    /// Reads the input types of a schema from its definition language.
    ///
    /// # Panics
    ///
    /// Panics if the definition cannot be parsed. async-graphql exports only definitions that it can parse.
    #[must_use]
    pub fn from_sdl(sdl: &str) -> Self {
        let built_in = [
            ("Int", InputType::Int),
            ("Float", InputType::Float),
            ("String", InputType::String),
            ("Boolean", InputType::Boolean),
            ("ID", InputType::Id),
        ];
        let mut types: HashMap<_, _> = built_in.map(|(name, ty)| (Name::new(name), ty)).into();
        for definition in parse_schema(sdl).expect("the schema definition is valid").definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let definition = definition.node;
            let ty = match definition.kind {
                TypeKind::Scalar => InputType::Scalar,
                TypeKind::Enum(ty) => {
                    InputType::Enum(ty.values.into_iter().map(|value| value.node.value.node).collect())
                }
                TypeKind::InputObject(ty) => {
                    let fields = ty.fields.into_iter().map(|Positioned { node: field, .. }| {
                        let has_default = field.default_value.is_some();
                        (field.name.node, InputField { ty: field.ty.node, has_default })
                    });
                    let mut directives = definition.directives.iter();
                    let one_of = directives.any(|directive| directive.node.name.node == "oneOf");
                    InputType::Object { fields: fields.collect(), one_of }
                }
                TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_) => continue,
            };
            types.entry(definition.name.node).or_insert(ty);
        }
        Self(types)
    }

    /// Checks that the variables of every operation of a document have input types.
    ///
    /// It has to run before async-graphql validates the document, because the validation panics at some unknown
    /// types.
    ///
    /// # Errors
    ///
    /// Returns an error for each variable whose type does not exist or is no input type.
    pub fn check_variable_types(&self, document: &ExecutableDocument) -> Result<(), Vec<CoercionError>> {
        let errors: Vec<_> = document
            .operations
            .iter()
            .flat_map(|(_, operation)| &operation.node.variable_definitions)
            .filter_map(|definition| self.check_variable_type(definition).err())
            .take(MAX_ERRORS)
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_variable_type(&self, definition: &Positioned<VariableDefinition>) -> Result<(), CoercionError> {
        let VariableDefinition { name, var_type: ty, .. } = &definition.node;
        let mut base = &ty.node.base;
        while let BaseType::List(item) = base {
            base = &item.base;
        }
        match base {
            BaseType::Named(base) if self.0.contains_key(base) => Ok(()),
            _ => Err(CoercionError {
                message: format!(
                    "Variable \"${name}\" expected value of type \"{ty}\" which cannot be used as an input type."
                ),
                pos: ty.pos,
            }),
        }
    }

    /// Coerces the variables of a request to the types that its operation defines.
    ///
    /// Undefined variables are dropped, and missing ones get their default values.
    ///
    /// # Errors
    ///
    /// Returns an error for each invalid value, or one error if the variables hold too many values.
    pub fn coerce(
        &self,
        definitions: &[Positioned<VariableDefinition>],
        mut variables: Variables,
    ) -> Result<Variables, Vec<CoercionError>> {
        let mut coerced = Variables::default();
        let mut errors = Vec::new();
        let mut value_count = 0;
        for definition in definitions {
            let VariableDefinition { name, var_type: ty, default_value, .. } = &definition.node;
            let mut coercer = VariableCoercer {
                types: self,
                variable: &name.node,
                pos: definition.pos,
                path: String::new(),
                errors: &mut errors,
            };
            if let Err(error) = self.check_variable_type(definition) {
                coercer.pos = error.pos;
                coercer.error(error.message);
                continue;
            }
            let given = variables.remove(&name.node);
            value_count += given.as_ref().map_or(0, count_values);
            if value_count > MAX_VALUES {
                coercer.error(format!("The variables hold more than {MAX_VALUES} values."));
                break;
            }
            match given.as_ref().or(default_value.as_ref().map(|value| &value.node)) {
                None if ty.node.nullable => {}
                None => coercer.error(format!("Variable \"${name}\" of required type \"{ty}\" was not provided.")),
                Some(Value::Null) if !ty.node.nullable => {
                    coercer.error(format!("Variable \"${name}\" of non-null type \"{ty}\" must not be null."));
                }
                Some(value) => {
                    let value = coercer.coerce_value(value, &ty.node);
                    coerced.insert(name.node.clone(), value);
                }
            }
        }
        if errors.is_empty() { Ok(coerced) } else { Err(errors) }
    }
}

/// Counts the values in a value, including itself.
///
/// It recurses as deep as the value nests, which `serde_json` limits to 128 levels.
fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::List(items) => items.iter().map(count_values).sum(),
        Value::Object(fields) => fields.values().map(count_values).sum(),
        _ => 0,
    }
}

/// The coercion of one variable.
struct VariableCoercer<'a> {
    types: &'a InputTypes,
    variable: &'a Name,
    pos: Pos,
    /// The path to the current value within the variable, such as `.members[2].id`.
    path: String,
    errors: &'a mut Vec<CoercionError>,
}

impl VariableCoercer<'_> {
    /// Coerces a value to a type; the result has no meaning if an error was recorded.
    fn coerce_value(&mut self, value: &Value, ty: &Type) -> Value {
        match (&ty.base, value) {
            (_, Value::Null) => {
                if !ty.nullable {
                    self.invalid_value(value, &format!("Expected non-nullable type \"{ty}\" not to be null."));
                }
                Value::Null
            }
            (BaseType::List(item), Value::List(values)) => {
                let coerce =
                    |(index, value)| self.with_path(format_args!("[{index}]"), |this| this.coerce_value(value, item));
                Value::List(values.iter().enumerate().map(coerce).collect())
            }
            (BaseType::List(item), value) => Value::List(vec![self.coerce_value(value, item)]),
            (BaseType::Named(name), value) => self.coerce_named(value, name),
        }
    }

    fn coerce_named(&mut self, value: &Value, name: &Name) -> Value {
        // A type that the schema uses but does not define coerces its values itself, like a custom scalar.
        let ty = self.types.0.get(name).unwrap_or(&InputType::Scalar);
        let coerced = match (ty, value) {
            (InputType::Scalar, _)
            | (InputType::Float, Value::Number(_))
            | (InputType::String | InputType::Id, Value::String(_))
            | (InputType::Boolean, Value::Boolean(_)) => Ok(value.clone()),
            (InputType::Int, Value::Number(number)) => match whole_number(number) {
                Some(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {
                    Ok(Value::Number(number))
                }
                Some(number) => Err(format!("Int cannot represent non 32-bit signed integer value: {number}")),
                None => Err(format!("Int cannot represent non-integer value: {number}")),
            },
            (InputType::Int, _) => Err(format!("Int cannot represent non-integer value: {}", print_value(value))),
            (InputType::Float, _) => Err(format!("Float cannot represent non numeric value: {}", print_value(value))),
            (InputType::String, _) => {
                Err(format!("String cannot represent a non string value: {}", print_value(value)))
            }
            (InputType::Boolean, _) => {
                Err(format!("Boolean cannot represent a non boolean value: {}", print_value(value)))
            }
            (InputType::Id, Value::Number(number)) if let Some(number) = whole_number(number) => {
                Ok(Value::String(number.to_string()))
            }
            (InputType::Id, _) => Err(format!("ID cannot represent value: {}", print_value(value))),
            // A default value in the document is a name, a value in JSON is a string.
            (InputType::Enum(values), Value::Enum(given)) if values.contains(given) => Ok(value.clone()),
            (InputType::Enum(values), Value::String(given)) if values.contains(given.as_str()) => Ok(value.clone()),
            (InputType::Enum(_), Value::Enum(_) | Value::String(_)) => {
                Err(format!("Value {} does not exist in \"{name}\" enum.", print_value(value)))
            }
            (InputType::Enum(_), _) => {
                Err(format!("Enum \"{name}\" cannot represent non-string value: {}.", print_value(value)))
            }
            (InputType::Object { fields, one_of }, Value::Object(given)) => {
                Ok(self.coerce_object(value, given, name, fields, *one_of))
            }
            (InputType::Object { .. }, _) => Err(format!("Expected type \"{name}\" to be an object.")),
        };
        coerced.unwrap_or_else(|reason| {
            self.invalid_value(value, &reason);
            Value::Null
        })
    }

    fn coerce_object(
        &mut self,
        value: &Value,
        given: &IndexMap<Name, Value>,
        name: &Name,
        fields: &IndexMap<Name, InputField>,
        one_of: bool,
    ) -> Value {
        let mut coerced = IndexMap::with_capacity(given.len());
        for (field, InputField { ty, has_default }) in fields {
            if let Some(value) = given.get(field) {
                let value = self.with_path(format_args!(".{field}"), |this| this.coerce_value(value, ty));
                coerced.insert(field.clone(), value);
            } else if !ty.nullable && !has_default {
                self.invalid_value(value, &format!("Field \"{field}\" of required type \"{ty}\" was not provided."));
            }
        }
        for unknown in given.keys().filter(|field| !fields.contains_key(*field)) {
            self.invalid_value(value, &format!("Field \"{unknown}\" is not defined by type \"{name}\"."));
        }
        if one_of {
            if coerced.len() != 1 {
                self.invalid_value(value, &format!("Exactly one key must be specified for OneOf type \"{name}\"."));
            }
            if let Some((field, _)) = coerced.first()
                && given[field] == Value::Null
            {
                let reason = format!("Field \"{field}\" must be non-null.");
                self.with_path(format_args!(".{field}"), |this| this.invalid_value(&Value::Null, &reason));
            }
        }
        Value::Object(coerced)
    }

    /// Calls a function with the path extended by a step.
    fn with_path<T>(&mut self, step: fmt::Arguments<'_>, coerce: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.write_fmt(step).expect("a write to a string cannot fail");
        let result = coerce(self);
        self.path.truncate(length);
        result
    }

    /// Records an invalid value at the current path.
    fn invalid_value(&mut self, value: &Value, reason: &str) {
        if self.errors.len() > MAX_ERRORS {
            return;
        }
        let (variable, path, value) = (self.variable, &self.path, print_value(value));
        let location = if path.is_empty() { String::new() } else { format!(" at \"{variable}{path}\"") };
        self.error(format!("Variable \"${variable}\" got invalid value {value}{location}; {reason}"));
    }

    /// Records an error, or the notice that there are too many.
    fn error(&mut self, message: String) {
        let message = match self.errors.len() {
            ..MAX_ERRORS => message,
            MAX_ERRORS => "Too many errors processing variables, error limit reached. Execution aborted.".to_owned(),
            _ => return,
        };
        self.errors.push(CoercionError { message, pos: self.pos });
    }
}

/// Returns a number without a fraction as an integer, such as JSON's `1.0` and `1e3`.
fn whole_number(number: &Number) -> Option<Number> {
    if !number.is_f64() {
        return Some(number.clone());
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    format!("{float:.0}").parse::<i64>().ok().map(Number::from)
}

/// Prints a value like graphql-js does in an error, cut to a limited length.
fn print_value(value: &Value) -> String {
    let mut printed = print_nested_value(value, 0);
    if printed.len() > MAX_PRINTED_BYTES {
        printed.truncate(printed.floor_char_boundary(MAX_PRINTED_BYTES));
        printed.push('…');
    }
    printed
}

/// Prints a value at a nesting level: at most ten values of a list, and at most two levels.
fn print_nested_value(value: &Value, level: usize) -> String {
    match value {
        Value::Number(number) => whole_number(number).as_ref().unwrap_or(number).to_string(),
        Value::List(items) if !items.is_empty() && level == 2 => "[Array]".to_owned(),
        Value::List(items) => {
            let mut printed: Vec<_> = items.iter().take(10).map(|item| print_nested_value(item, level + 1)).collect();
            match items.len().saturating_sub(10) {
                0 => {}
                1 => printed.push("... 1 more item".to_owned()),
                more => printed.push(format!("... {more} more items")),
            }
            format!("[{}]", printed.join(", "))
        }
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Value::Object(_) if level == 2 => "[Object]".to_owned(),
        Value::Object(fields) => {
            let printed: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", print_nested_value(value, level + 1)))
                .collect();
            format!("{{ {} }}", printed.join(", "))
        }
        Value::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    const SDL: &str = r#"
        directive @oneOf on INPUT_OBJECT
        "Anything" scalar Any
        enum Role { OWNER MEMBER }
        input Message { chat: ID! text: String! tags: [String!] reply: Message pinned: Boolean! = false }
        input Target @oneOf { chat: ID message: Int }
        type Query { a: Int }
        schema { query: Query }
    "#;

    /// Coerces the variables of `query(definitions) { a }` to an object, or to a list of messages.
    fn coerce(definitions: &str, variables: serde_json::Value) -> serde_json::Value {
        let types = InputTypes::from_sdl(SDL);
        let document = parse_query(format!("query({definitions}) {{ a }}")).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        match types.coerce(&operation.node.variable_definitions, Variables::from_json(variables)) {
            Ok(variables) => serde_json::to_value(variables).unwrap(),
            Err(errors) => errors.into_iter().map(|error| error.message).collect(),
        }
    }

    /// The expected values are those of graphql-js 16.15.
    #[test]
    fn valid_variables_are_coerced_to_their_types() {
        for (definition, given, expected) in [
            ("Int", json!(1.0), json!(1)),
            ("Int", json!(1e3), json!(1000)),
            ("Int = 7", json!(null), json!(null)),
            ("Float", json!(1), json!(1)),
            ("String", json!("1"), json!("1")),
            ("Boolean!", json!(false), json!(false)),
            ("ID", json!("x"), json!("x")),
            ("ID", json!(12), json!("12")),
            ("ID", json!(12.0), json!("12")),
            ("[ID!]!", json!(1), json!(["1"])),
            ("[[Int]]", json!(1), json!([[1]])),
            ("[[Int]]", json!([1, [2, null]]), json!([[1], [2, null]])),
            ("Role", json!("OWNER"), json!("OWNER")),
            ("Any", json!({"x": [1.5, null]}), json!({"x": [1.5, null]})),
            ("Message", json!({"chat": 1, "text": "t", "tags": "x"}), json!({"chat": "1", "text": "t", "tags": ["x"]})),
            ("Target", json!({"chat": 7}), json!({"chat": "7"})),
        ] {
            let coerced = coerce(&format!("$a: {definition}"), json!({"a": given, "unknown": 1}));
            assert_eq!(coerced, json!({"a": expected}), "{definition}");
        }
    }

    #[test]
    fn missing_variables_get_their_default_values() {
        for (definitions, expected) in [
            ("$a: Int", json!({})),
            ("$a: Int = 7 $b: Int = null", json!({"a": 7, "b": null})),
            ("$a: ID! = 5 $b: [Role] = OWNER", json!({"a": "5", "b": ["OWNER"]})),
            ("$a: Message = {chat: 1, text: \"\"}", json!({"a": {"chat": "1", "text": ""}})),
        ] {
            assert_eq!(coerce(definitions, json!({})), expected, "{definitions}");
        }
    }

    /// The expected messages are those of graphql-js 16.15.
    #[test]
    fn invalid_variables_are_rejected_with_the_messages_of_graphql_js() {
        for (definition, given, expected) in [
            ("Int", json!(1.5), "1.5; Int cannot represent non-integer value: 1.5"),
            ("Int", json!("1"), r#""1"; Int cannot represent non-integer value: "1""#),
            ("Int", json!(4e9), "4000000000; Int cannot represent non 32-bit signed integer value: 4000000000"),
            ("Float", json!("1"), r#""1"; Float cannot represent non numeric value: "1""#),
            ("String", json!(1.0), "1; String cannot represent a non string value: 1"),
            ("Boolean", json!(1), "1; Boolean cannot represent a non boolean value: 1"),
            ("ID", json!(true), "true; ID cannot represent value: true"),
            ("ID", json!(1.5), "1.5; ID cannot represent value: 1.5"),
            ("Role", json!(1), r#"1; Enum "Role" cannot represent non-string value: 1."#),
            ("Role", json!("NONE"), r#""NONE"; Value "NONE" does not exist in "Role" enum."#),
            ("[Int!]", json!([1, null]), r#"null at "a[1]"; Expected non-nullable type "Int!" not to be null."#),
            ("Message", json!([]), r#"[]; Expected type "Message" to be an object."#),
            (
                "Message",
                json!({"chat": "c"}),
                r#"{ chat: "c" }; Field "text" of required type "String!" was not provided."#,
            ),
            (
                "[Message]",
                json!({"chat": 1, "text": "", "reply": {"chat": 1, "text": 1}}),
                r#"1 at "a.reply.text"; String cannot represent a non string value: 1"#,
            ),
            (
                "[Target]",
                json!([{"chat": "c", "other": 1}]),
                r#"{ chat: "c", other: 1 } at "a[0]"; Field "other" is not defined by type "Target"."#,
            ),
            ("Target", json!({}), r#"{}; Exactly one key must be specified for OneOf type "Target"."#),
            ("Target", json!({"chat": null}), r#"null at "a.chat"; Field "chat" must be non-null."#),
        ] {
            let coerced = coerce(&format!("$a: {definition}"), json!({"a": given}));
            assert_eq!(coerced, json!([format!("Variable \"$a\" got invalid value {expected}")]));
        }
        for (definition, variables, expected) in [
            ("String!", json!({}), r#"of required type "String!" was not provided."#),
            ("[Int]!", json!({"a": null}), r#"of non-null type "[Int]!" must not be null."#),
            ("[Query]", json!({}), r#"expected value of type "[Query]" which cannot be used as an input type."#),
        ] {
            let coerced = coerce(&format!("$a: {definition}"), variables);
            assert_eq!(coerced, json!([format!("Variable \"$a\" {expected}")]));
        }
    }

    #[test]
    fn values_are_printed_like_graphql_js_prints_them() {
        for (value, expected) in [
            (
                json!([[1, [2, [3]]], {"e": {}, "l": [], "x": {"y": 1}}]),
                "[[1, [Array]], { e: {}, l: [], x: [Object] }]",
            ),
            (json!({"t": "q\"\n\u{1}é"}), r#"{ t: "q\"\n\u0001é" }"#),
            (json!(vec![0; 11]), "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ... 1 more item]"),
            (json!(vec![0; 12]), "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ... 2 more items]"),
        ] {
            assert_eq!(print_value(&Value::from_json(value).unwrap()), expected);
        }
        let long = print_value(&Value::from("é".repeat(MAX_PRINTED_BYTES)));
        assert!(long.len() <= MAX_PRINTED_BYTES + '…'.len_utf8() && long.ends_with("é…"));
    }

    #[test]
    fn number_of_errors_and_of_values_is_limited() {
        let errors = coerce("$a: [Int!] $b: Int!", json!({"a": vec![json!(null); 60]}));
        let errors = errors.as_array().unwrap();
        assert_eq!(errors.len(), MAX_ERRORS + 1);
        assert!(errors[MAX_ERRORS].as_str().unwrap().starts_with("Too many errors processing variables"));

        let given = |values: usize| json!({"a": vec![1; values - 2], "b": {"x": null}, "c": [1, 2, 3]});
        assert!(coerce("$a: [Int] $b: Any", given(MAX_VALUES - 1)).is_object());
        let expected = json!(["The variables hold more than 2000 values."]);
        assert_eq!(coerce("$a: [Int] $b: Any", given(MAX_VALUES)), expected);
    }

    #[test]
    fn variable_of_no_input_type_is_rejected_in_every_operation() {
        let types = InputTypes::from_sdl(SDL);
        let check = |document| types.check_variable_types(&parse_query(document).unwrap());
        assert_eq!(check("query A($a: [[Role!]]!, $b: Any) { a } query B { a }"), Ok(()));
        let errors = check("query A { a }\nquery B($a: Int, $b: [[Nope!]] = 1) { a }").unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].message.contains("\"[[Nope!]]\" which cannot be used as an input type"));
        assert_eq!(errors[0].pos, Pos { line: 2, column: 22 });
    }
}
