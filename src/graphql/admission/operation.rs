//! Analysis of a parsed document: its operation, and the operation's depth and root field.
//!
//! The functions recurse as deep as the document's brackets nest, which
//! [`document_limits`](crate::graphql::admission::document_limits) has bounded, and visit each fragment once.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_graphql::{
    Name, Positioned, Variables,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
};
use async_graphql_value::Value;

/// The greatest number of entries that an introspection query may list, if each list has ten entries.
///
/// GraphiQL's query for the whole schema lists 1,620 entries by this estimate.
const MAX_INTROSPECTION_ENTRIES: usize = 2_000;

/// The fields of the introspection types that are lists with further lists in them.
const INTROSPECTION_LISTS: [&str; 8] =
    ["args", "directives", "enumValues", "fields", "inputFields", "interfaces", "possibleTypes", "types"];

/// The fields that are cursors of feeds, from which a feed continues after the response.
const FEED_CURSORS: [&str; 2] = ["feedCursor", "inboxCursor"];

/// The reason for which an operation is not executed, as a message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    #[error("Must provide operation name if query contains multiple operations.")]
    MissingOperationName,
    #[error("Unknown operation named \"{0}\".")]
    UnknownOperation(String),
    #[error("The introspection would list too much: select fewer lists within lists.")]
    IntrospectionTooLarge,
    #[error("A subscription must select only one top level field.")]
    MultipleRootFields,
    #[error("A subscription must not select an introspection top level field.")]
    IntrospectionRootField,
    #[error(
        "Fields \"{0}\" conflict because they select different fields or have differing arguments. Use different \
         aliases on the fields to fetch both if this was intentional."
    )]
    ConflictingRootFields(String),
    #[error("A subscription must not use @skip or @include on its top level field.")]
    ConditionalRootField,
}

/// Selects the operation of a request: the specification's `GetOperation` (section 6.1).
///
/// The parser's `DocumentOperations::Multiple` includes a document with a single named operation.
///
/// # Errors
///
/// Returns an error if no operation has the name, or if the name of one of several operations is missing.
pub fn select<'d>(
    document: &'d ExecutableDocument,
    name: Option<&str>,
) -> Result<&'d Positioned<OperationDefinition>, OperationError> {
    let mut operations = document.operations.iter();
    let operation = match name {
        Some(name) => operations.find(|(given, _)| given.is_some_and(|given| given == name)),
        None if operations.len() == 1 => operations.next(),
        None => return Err(OperationError::MissingOperationName),
    };
    let (_, operation) =
        operation.ok_or_else(|| OperationError::UnknownOperation(name.unwrap_or_default().to_owned()))?;
    Ok(operation)
}

/// Returns the operation that [`select`] finds, for modification.
pub fn select_mut<'d>(
    document: &'d mut ExecutableDocument,
    name: Option<&str>,
) -> Option<&'d mut Positioned<OperationDefinition>> {
    match (&mut document.operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get_mut(name),
        (DocumentOperations::Multiple(operations), None) => operations.values_mut().next(),
        (DocumentOperations::Single(_), Some(_)) => None,
    }
}

/// Returns whether the operation selects `__schema`.
pub fn reads_schema(document: &ExecutableDocument, operation: &OperationDefinition) -> bool {
    selects_any(document, operation, &["__schema"])
}

/// Returns whether the operation selects the cursor of a feed, which holds for the whole response.
pub fn reads_feed_cursor(document: &ExecutableDocument, operation: &OperationDefinition) -> bool {
    selects_any(document, operation, &FEED_CURSORS)
}

/// Returns whether the operation selects a field with one of the names, at any depth.
fn selects_any(document: &ExecutableDocument, operation: &OperationDefinition, names: &[&str]) -> bool {
    let fold_field = |field: &Field, selections: bool| selections || names.contains(&field.name.node.as_str());
    SelectionFold::new(document, fold_field, |left, right| left || right).fold_set(&operation.selection_set.node)
}

/// Returns the depth of the operation's selections.
///
/// It is 1 for fields without selections, 2 for fields of fields. The selections of `__schema` and `__type` do not
/// count; [`check_introspection`] bounds them.
pub fn depth(document: &ExecutableDocument, operation: &OperationDefinition) -> usize {
    let fold_field = |field: &Field, selections: usize| 1 + if is_introspection_field(field) { 0 } else { selections };
    SelectionFold::new(document, fold_field, usize::max).fold_set(&operation.selection_set.node)
}

/// Checks that the operation does not introspect more than a tool needs.
///
/// The introspection types refer to each other, so a short query can list any power of the schema's size.
///
/// # Errors
///
/// Returns an error if the introspection is estimated to list more than 2,000 entries.
pub fn check_introspection(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
) -> Result<(), OperationError> {
    let fold_field = |field: &Field, selections: IntrospectionCost| {
        let is_list = INTROSPECTION_LISTS.contains(&field.name.node.as_str());
        IntrospectionCost {
            total: if is_introspection_field(field) { selections.within_introspection } else { selections.total },
            within_introspection: if is_list {
                selections.within_introspection.saturating_add(1).saturating_mul(10)
            } else {
                selections.within_introspection
            },
        }
    };
    let cost = SelectionFold::new(document, fold_field, IntrospectionCost::add).fold_set(&operation.selection_set.node);
    if cost.total <= MAX_INTROSPECTION_ENTRIES { Ok(()) } else { Err(OperationError::IntrospectionTooLarge) }
}

/// Checks that a subscription selects exactly one field.
///
/// This is a rule of the specification (September 2025, section 5.2.4.1). The field can be selected directly or through
/// fragments, once or several times, but not by a condition, and it must not be one of introspection.
///
/// # Errors
///
/// Returns the rule that the subscription breaks.
pub fn check_single_root(document: &ExecutableDocument, operation: &OperationDefinition) -> Result<(), OperationError> {
    if operation.ty != OperationType::Subscription {
        return Ok(());
    }
    let roots = root_fields(document, operation)?;
    let Some((first, others)) = roots.split_first() else { return Err(OperationError::MultipleRootFields) };
    let key = first.node.response_key();
    if others.iter().any(|other| other.node.response_key().node != key.node) {
        return Err(OperationError::MultipleRootFields);
    }
    if first.node.name.node.starts_with("__") {
        return Err(OperationError::IntrospectionRootField);
    }
    match others.iter().all(|other| select_the_same(&first.node, &other.node)) {
        true => Ok(()),
        false => Err(OperationError::ConflictingRootFields(key.node.to_string())),
    }
}

/// Returns the name of the only root field of a subscription that [`check_single_root`] accepted.
///
/// # Errors
///
/// Returns an error if a root field is selected by a condition.
pub fn root_field_name(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
) -> Result<String, OperationError> {
    let fields = root_fields(document, operation)?;
    Ok(fields.first().map(|field| field.node.name.node.to_string()).unwrap_or_default())
}

/// Returns whether two fields with one response key are the same field with the same arguments.
fn select_the_same(one: &Field, other: &Field) -> bool {
    fn arguments(field: &Field) -> HashMap<&Name, &Value> {
        field.arguments.iter().map(|(name, value)| (&name.node, &value.node)).collect()
    }
    one.name.node == other.name.node && arguments(one) == arguments(other)
}

/// Makes the root field of a subscription one field of the operation, with all of its selections.
///
/// async-graphql does not search fragments for the root field, and would end the subscription at once; if the operation
/// selects it twice, it would subscribe twice. The fragments remain for the validation. Queries and mutations are left
/// unchanged. A subscription has to pass [`check_single_root`] first.
///
/// # Errors
///
/// Returns the errors of [`select`], and an error if a root field is selected by a condition.
pub fn hoist_single_root(document: &mut ExecutableDocument, name: Option<&str>) -> Result<(), OperationError> {
    let operation = &select(document, name)?.node;
    if operation.ty != OperationType::Subscription {
        return Ok(());
    }
    let roots = root_fields(document, operation)?;
    let Some((&first, others)) = roots.split_first() else { return Ok(()) };
    let mut root = first.clone();
    for other in others {
        root.node.directives.extend(other.node.directives.iter().cloned());
        root.node.selection_set.node.items.extend(other.node.selection_set.node.items.iter().cloned());
    }
    let root = Positioned::new(Selection::Field(root), first.pos);
    if let Some(operation) = select_mut(document, name) {
        let items = &mut operation.node.selection_set.node.items;
        items.retain(|selection| !matches!(selection.node, Selection::Field(_)));
        items.push(root);
    }
    Ok(())
}

/// Returns the fields that a subscription selects at its root, directly or through fragments.
fn root_fields<'d>(
    document: &'d ExecutableDocument,
    operation: &'d OperationDefinition,
) -> Result<Vec<&'d Positioned<Field>>, OperationError> {
    let mut fields = Vec::new();
    let mut visited = HashSet::new();
    let mut sets = vec![&operation.selection_set.node];
    while let Some(set) = sets.pop() {
        for selection in &set.items {
            if selection.node.directives().iter().any(is_condition) {
                return Err(OperationError::ConditionalRootField);
            }
            match &selection.node {
                Selection::Field(field) => fields.push(field),
                Selection::InlineFragment(inline) => sets.push(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if visited.insert(name)
                        && let Some(fragment) = document.fragments.get(name)
                    {
                        sets.push(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
    Ok(fields)
}

/// Returns the variables that an event of a subscription can depend on, as JSON.
///
/// Variables that only the arguments of the root field use decide which events the subscription reads and from
/// which cursor, but not how an event looks. They are left out, so that subscribers who resume from different
/// cursors share their executions.
///
/// # Panics
///
/// Panics if a value cannot be serialised as JSON, which no GraphQL value can cause.
pub fn event_variables(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    variables: &Variables,
) -> String {
    let mut used = HashSet::new();
    for selection in &operation.selection_set.node.items {
        match &selection.node {
            Selection::Field(root) => {
                root.node
                    .directives
                    .iter()
                    .for_each(|directive| collect_directive_variables(&directive.node, &mut used));
                collect_variables(&root.node.selection_set.node, &mut used);
            }
            other => collect_selection_variables(other, &mut used),
        }
    }
    document.fragments.values().for_each(|fragment| collect_variables(&fragment.node.selection_set.node, &mut used));
    let used: BTreeMap<_, _> = variables.iter().filter(|(name, _)| used.contains(*name)).collect();
    serde_json::to_string(&used).expect("GraphQL values can be serialised as JSON")
}

/// Collects the variables of a selection set, without those of the fragments that it spreads.
pub fn collect_variables(set: &SelectionSet, used: &mut HashSet<Name>) {
    set.items.iter().for_each(|selection| collect_selection_variables(&selection.node, used));
}

fn collect_selection_variables(selection: &Selection, used: &mut HashSet<Name>) {
    selection.directives().iter().for_each(|directive| collect_directive_variables(&directive.node, used));
    match selection {
        Selection::Field(field) => {
            field.node.arguments.iter().for_each(|(_, value)| collect_value_variables(&value.node, used));
            collect_variables(&field.node.selection_set.node, used);
        }
        Selection::InlineFragment(inline) => collect_variables(&inline.node.selection_set.node, used),
        // `event_variables` visits every fragment of the document.
        Selection::FragmentSpread(_) => {}
    }
}

/// Collects the variables in the arguments of a directive.
pub fn collect_directive_variables(directive: &Directive, used: &mut HashSet<Name>) {
    directive.arguments.iter().for_each(|(_, value)| collect_value_variables(&value.node, used));
}

fn collect_value_variables(value: &Value, used: &mut HashSet<Name>) {
    match value {
        Value::Variable(name) => drop(used.insert(name.clone())),
        Value::List(values) => values.iter().for_each(|value| collect_value_variables(value, used)),
        Value::Object(fields) => fields.values().for_each(|value| collect_value_variables(value, used)),
        _ => {}
    }
}

fn is_condition(directive: &Positioned<Directive>) -> bool {
    matches!(directive.node.name.node.as_str(), "skip" | "include")
}

fn is_introspection_field(field: &Field) -> bool {
    matches!(field.name.node.as_str(), "__schema" | "__type")
}

/// The estimated number of entries that introspection lists.
#[derive(Clone, Copy, Default)]
struct IntrospectionCost {
    /// The entries of the introspection fields among the selections.
    total: usize,
    /// The entries if the selections are those of an introspection type.
    within_introspection: usize,
}

impl IntrospectionCost {
    fn add(self, other: Self) -> Self {
        Self {
            total: self.total.saturating_add(other.total),
            within_introspection: self.within_introspection.saturating_add(other.within_introspection),
        }
    }
}

/// Computes a value of a selection set from the values of its selections.
struct SelectionFold<'d, T, F> {
    document: &'d ExecutableDocument,
    /// Computes the value of a field from that of its selections.
    fold_field: F,
    /// Combines the values of two selections of the same set.
    combine: fn(T, T) -> T,
    /// The values of the fragments that were visited.
    fragment_results: HashMap<&'d Name, T>,
}

impl<'d, T: Copy + Default, F: Fn(&Field, T) -> T> SelectionFold<'d, T, F> {
    fn new(document: &'d ExecutableDocument, fold_field: F, combine: fn(T, T) -> T) -> Self {
        Self { document, fold_field, combine, fragment_results: HashMap::new() }
    }

    fn fold_set(&mut self, set: &'d SelectionSet) -> T {
        set.items.iter().fold(T::default(), |total, selection| {
            let value = match &selection.node {
                Selection::Field(field) => {
                    let selections = self.fold_set(&field.node.selection_set.node);
                    (self.fold_field)(&field.node, selections)
                }
                Selection::InlineFragment(inline) => self.fold_set(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => self.fold_fragment(&spread.node.fragment_name.node),
            };
            (self.combine)(total, value)
        })
    }

    fn fold_fragment(&mut self, name: &'d Name) -> T {
        if let Some(&value) = self.fragment_results.get(name) {
            return value;
        }
        let Some(fragment) = self.document.fragments.get(name) else { return T::default() };
        // The validator rejects a fragment that spreads itself; here the inner spread has no effect.
        self.fragment_results.insert(name, T::default());
        let value = self.fold_set(&fragment.node.selection_set.node);
        self.fragment_results.insert(name, value);
        value
    }
}

#[cfg(test)]
pub(super) mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    /// GraphiQL's query: `getIntrospectionQuery` of graphql-js 16.15 with all its options.
    pub const INTROSPECTION: &str = "
        query IntrospectionQuery {
          __schema {
            description queryType { name kind } mutationType { name kind } subscriptionType { name kind }
            types { ...FullType }
            directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } }
          }
        }
        fragment FullType on __Type {
          kind name description specifiedByURL isOneOf
          fields(includeDeprecated: true) {
            name description args(includeDeprecated: true) { ...InputValue } type { ...TypeRef }
            isDeprecated deprecationReason
          }
          inputFields(includeDeprecated: true) { ...InputValue }
          interfaces { ...TypeRef }
          enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason }
          possibleTypes { ...TypeRef }
        }
        fragment InputValue on __InputValue {
          name description type { ...TypeRef } defaultValue isDeprecated deprecationReason
        }
        fragment TypeRef on __Type {
          kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
          ofType { kind name ofType { kind name ofType { kind name ofType { kind name
          ofType { kind name } } } } } } } } }
        }";

    /// Applies a function to a document's only operation.
    fn analyze<T>(document: &str, function: fn(&ExecutableDocument, &OperationDefinition) -> T) -> T {
        let document = parse_query(document).unwrap();
        function(&document, &select(&document, None).unwrap().node)
    }

    #[test]
    fn operation_is_selected_by_its_name() {
        let missing = OperationError::MissingOperationName;
        let unknown = |name: &str| OperationError::UnknownOperation(name.to_owned());
        for (document, name, expected) in [
            ("{ a }", None, Ok(OperationType::Query)),
            ("{ a }", Some("A"), Err(unknown("A"))),
            ("mutation A { a }", None, Ok(OperationType::Mutation)),
            ("mutation A { a }", Some("A"), Ok(OperationType::Mutation)),
            ("mutation A { a }", Some(""), Err(unknown(""))),
            ("query A { a } mutation B { a }", Some("B"), Ok(OperationType::Mutation)),
            ("query A { a } mutation B { a }", Some("C"), Err(unknown("C"))),
            ("query A { a } mutation B { a }", None, Err(missing)),
        ] {
            let document = parse_query(document).unwrap();
            assert_eq!(select(&document, name).map(|operation| operation.node.ty), expected);
        }
    }

    #[test]
    fn depth_counts_fields_through_fragments() {
        for (document, expected) in [
            ("{ a }", 1),
            ("{ a { b c { d } } e { f } }", 3),
            ("{ ... { ... on Query { a { b } } } }", 2),
            ("{ a { ...F } ...F } fragment F on T { b { ...G } } fragment G on T { c { d } }", 4),
            ("{ ...Unknown }", 0),
            ("{ ...F } fragment F on T { a { ...F } }", 1),
            ("{ a { __typename } __schema { types { fields { name } } } __type(name: \"A\") { name } }", 2),
            (INTROSPECTION, 1),
        ] {
            assert_eq!(analyze(document, depth), expected, "{document}");
        }
        let doubling: String =
            (0..40).map(|n| format!("fragment F{n} on T {{ a {{ ...F{0} ...F{0} }} }}", n + 1)).collect();
        assert_eq!(analyze(&(doubling + "{ ...F0 }"), depth), 40);
    }

    #[test]
    fn introspection_is_limited_to_the_size_that_tools_need() {
        for (document, allowed) in [
            (INTROSPECTION, true),
            ("{ __type(name: \"A\") { fields { type { fields { type { fields { name } } } } } } }", true),
            ("{ __type(name: \"A\") { fields { type { fields { type { fields { args { name } } } } } } } }", false),
            ("{ __schema { types { fields { type { fields { name } } } } } }", true),
            ("{ __schema { types { fields { type { a: fields { name } b: fields { name } } } } } }", false),
            ("{ ...F ...F } fragment F on Query { __schema { types { fields { args { name } } } } }", false),
            ("{ types { fields { fields { fields { fields { args } } } } } __typename }", true),
        ] {
            assert_eq!(analyze(document, check_introspection).is_ok(), allowed, "{document}");
            assert_eq!(analyze(document, reads_schema), document.contains("__schema"), "{document}");
        }
    }

    #[test]
    fn feed_cursor_is_found_through_aliases_and_fragments() {
        for (document, expected) in [
            ("{ chat(id: 1) { id feedCursor } }", true),
            ("{ viewer { a: inboxCursor } }", true),
            ("{ ...F } fragment F on Query { viewer { ... on Viewer { inboxCursor } } }", true),
            ("{ feedCursor: chat(id: 1) { id } }", false),
            ("{ chat(id: \"feedCursor\") { id } }", false),
        ] {
            assert_eq!(analyze(document, reads_feed_cursor), expected, "{document}");
        }
    }

    #[test]
    fn subscription_must_have_exactly_one_root_field() {
        for (document, expected) in [
            ("{ a b }", Ok(())),
            ("subscription { a { b c } }", Ok(())),
            ("subscription { ...F } fragment F on S { ... on S { a } }", Ok(())),
            ("subscription { ...F ...F } fragment F on S { a ...F }", Ok(())),
            ("subscription { a { b } a { c } ...F } fragment F on S { a { d } }", Ok(())),
            ("subscription { x: a(b: 1, c: $d) x: a(c: $d, b: 1) }", Ok(())),
            ("subscription { x: a x: b }", Err(OperationError::ConflictingRootFields("x".into()))),
            (
                "subscription { a(b: 1) ...F } fragment F on S { a(b: 2) }",
                Err(OperationError::ConflictingRootFields("a".into())),
            ),
            ("subscription { x: a a }", Err(OperationError::MultipleRootFields)),
            ("subscription { a b }", Err(OperationError::MultipleRootFields)),
            ("subscription { a ...F } fragment F on S { b }", Err(OperationError::MultipleRootFields)),
            ("subscription { ...Unknown }", Err(OperationError::MultipleRootFields)),
            ("subscription { a: __typename }", Err(OperationError::IntrospectionRootField)),
            ("subscription { ... @include(if: true) { a } }", Err(OperationError::ConditionalRootField)),
        ] {
            assert_eq!(analyze(document, check_single_root), expected, "{document}");
        }
    }

    #[test]
    fn event_variables_exclude_those_of_root_field_arguments() {
        let given = serde_json::json!({ "a": 1, "b": [2], "c": { "d": 3 } });
        for (document, expected) in [
            ("subscription($a: Int) { x(after: $a) { y } }", "{}"),
            ("subscription($a: Int, $b: [Int]) { x(after: $a, in: { b: $b }) { y(b: $b) } }", r#"{"b":[2]}"#),
            ("subscription($a: Int) { x(after: $a) { y { z(a: [{ b: $a }]) } } }", r#"{"a":1}"#),
            ("subscription($a: Int) { x { y @include(if: $a) } }", r#"{"a":1}"#),
            ("subscription($a: Int) { x { ...F } } fragment F on T { y { z(a: $a) } }", r#"{"a":1}"#),
            ("subscription($c: T) { ... on S { x(a: $c) { y } } }", r#"{"c":{"d":3}}"#),
        ] {
            let document = parse_query(document).unwrap();
            let operation = &select(&document, None).unwrap().node;
            let variables = Variables::from_json(given.clone());
            assert_eq!(event_variables(&document, operation, &variables), expected);
        }
    }

    #[test]
    fn root_fields_of_a_subscription_become_one_field_of_the_operation() {
        for (document, selections, root_selections) in [
            ("subscription { ...F } fragment F on S { ... on S { b: a { c } } }", 2, 1),
            ("subscription A { ...F } fragment F on S { a }", 2, 0),
            ("subscription { a { b } }", 1, 1),
            ("subscription { a { b } a { c d } ...F } fragment F on S { a { e } }", 2, 4),
            ("{ ...F } fragment F on Query { a }", 1, 0),
        ] {
            let mut document = parse_query(document).unwrap();
            hoist_single_root(&mut document, None).unwrap();
            let items = &select(&document, None).unwrap().node.selection_set.node.items;
            let fields: Vec<_> = items
                .iter()
                .filter_map(|selection| match &selection.node {
                    Selection::Field(field) => Some(field.node.selection_set.node.items.len()),
                    _ => None,
                })
                .collect();
            assert_eq!(items.len(), selections);
            assert_eq!(fields.iter().sum::<usize>(), root_selections);
            assert!(fields.len() <= 1, "one field");
        }
    }
}
