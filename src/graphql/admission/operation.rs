//! What a parsed document asks for: which of its operations is meant, how deep that selects, what
//! it introspects, and whether it is a proper subscription.
//!
//! The functions recurse as deep as the document's brackets nest, which the guard has bounded, and
//! look at each fragment once.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_graphql::{
    Name, Positioned, Variables,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
};
use async_graphql_value::Value;

/// The most entries that introspection may be expected to list, each list taken to have ten. The
/// whole schema, as GraphiQL asks for it, is 1,620.
const MAX_INTROSPECTION_ENTRIES: usize = 2_000;

/// The lists of the introspection types that lead to further lists.
const INTROSPECTION_LISTS: [&str; 8] =
    ["args", "directives", "enumValues", "fields", "inputFields", "interfaces", "possibleTypes", "types"];

/// Why an operation is not executed, in words for the client.
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
    #[error("A subscription must not use @skip or @include on its top level field.")]
    ConditionalRootField,
}

/// The operation that a request means: the specification's `GetOperation` (section 6.1).
/// The parser takes a lone operation with a name for one of several.
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

/// The operation that [`select`] finds, to be changed.
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

/// Whether the operation asks for `__schema`.
pub fn reads_schema(document: &ExecutableDocument, operation: &OperationDefinition) -> bool {
    let field = |field: &Field, below: bool| below || field.name.node == "__schema";
    SelectionFold::new(document, field, |one, other| one || other).fold_set(&operation.selection_set.node)
}

/// How deep the operation selects: 1 for fields alone, 2 for fields of fields. What is selected of
/// `__schema` and `__type` is left out; [`check_introspection`] looks at that.
pub fn depth(document: &ExecutableDocument, operation: &OperationDefinition) -> usize {
    let field = |field: &Field, below: usize| 1 + if is_introspection_field(field) { 0 } else { below };
    SelectionFold::new(document, field, usize::max).fold_set(&operation.selection_set.node)
}

/// Checks that the operation does not introspect more than a tool needs. The introspection types
/// lead to each other without end, so that a short query can list any power of the schema's size.
pub fn check_introspection(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
) -> Result<(), OperationError> {
    let field = |field: &Field, below: IntrospectionCost| {
        let is_list = INTROSPECTION_LISTS.contains(&field.name.node.as_str());
        IntrospectionCost {
            total: if is_introspection_field(field) { below.within_introspection } else { below.total },
            within_introspection: if is_list {
                below.within_introspection.saturating_add(1).saturating_mul(10)
            } else {
                below.within_introspection
            },
        }
    };
    let entries = SelectionFold::new(document, field, IntrospectionCost::add).fold_set(&operation.selection_set.node);
    if entries.total <= MAX_INTROSPECTION_ENTRIES { Ok(()) } else { Err(OperationError::IntrospectionTooLarge) }
}

/// Checks that a subscription selects exactly one field, which is none of introspection, whether
/// directly or through fragments, and without a condition (specification of September 2025,
/// section 5.2.4.1). To select the same field twice is refused too, though the specification would
/// merge the two: async-graphql would subscribe twice.
pub fn check_single_root(document: &ExecutableDocument, operation: &OperationDefinition) -> Result<(), OperationError> {
    if operation.ty != OperationType::Subscription {
        return Ok(());
    }
    let roots = root_fields(document, operation)?;
    match roots[..] {
        [root] if root.node.name.node.starts_with("__") => Err(OperationError::IntrospectionRootField),
        [_] => Ok(()),
        _ => Err(OperationError::MultipleRootFields),
    }
}

/// The name of the one field that [`check_single_root`] has found.
pub fn root_field_name(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
) -> Result<String, OperationError> {
    let name = |root: &&Positioned<Field>| root.node.name.node.to_string();
    Ok(root_fields(document, operation)?.first().map(name).unwrap_or_default())
}

/// Selects the root field of a subscription in the operation itself too if only a fragment selects
/// it, because async-graphql does not look into fragments there and would end the subscription at
/// once. It is for subscriptions that [`check_single_root`] has passed, and changes nothing else.
pub fn hoist_single_root(document: &mut ExecutableDocument, name: Option<&str>) -> Result<(), OperationError> {
    let operation = &select(document, name)?.node;
    let is_field = |selection: &Positioned<Selection>| matches!(selection.node, Selection::Field(_));
    if operation.ty != OperationType::Subscription || operation.selection_set.node.items.iter().any(is_field) {
        return Ok(());
    }
    let Some(&root) = root_fields(document, operation)?.first() else { return Ok(()) };
    let root = Positioned::new(Selection::Field(root.clone()), root.pos);
    if let Some(operation) = select_mut(document, name) {
        operation.node.selection_set.node.items.push(root);
    }
    Ok(())
}

/// The fields that a subscription selects at its root, directly or through fragments.
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

/// The variables that an event of a subscription can depend on, as JSON. Those that the root field's
/// arguments alone use say where it begins and what it listens to, which is no matter of its events: two
/// who resume from different places ask the same.
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
    serde_json::to_string(&used).expect("GraphQL values are JSON")
}

fn collect_variables(set: &SelectionSet, used: &mut HashSet<Name>) {
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
        // Every fragment is looked at by itself.
        Selection::FragmentSpread(_) => {}
    }
}

fn collect_directive_variables(directive: &Directive, used: &mut HashSet<Name>) {
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

/// The entries that introspection is expected to list.
#[derive(Clone, Copy, Default)]
struct IntrospectionCost {
    /// Where introspection begins in the selections.
    total: usize,
    /// Where the selections are themselves those of an introspection type.
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

/// Works out a figure of a selection set from those of its selections.
struct SelectionFold<'d, T, F> {
    document: &'d ExecutableDocument,
    /// The figure of a field, given that of its selections.
    fold_field: F,
    /// The figure of two selections beside each other.
    combine: fn(T, T) -> T,
    /// The figures of the fragments seen so far.
    fragment_results: HashMap<&'d Name, T>,
}

impl<'d, T: Copy + Default, F: Fn(&Field, T) -> T> SelectionFold<'d, T, F> {
    fn new(document: &'d ExecutableDocument, field: F, beside: fn(T, T) -> T) -> Self {
        Self { document, fold_field: field, combine: beside, fragment_results: HashMap::new() }
    }

    fn fold_set(&mut self, set: &'d SelectionSet) -> T {
        set.items.iter().fold(T::default(), |figure, selection| {
            let next = match &selection.node {
                Selection::Field(field) => {
                    let below = self.fold_set(&field.node.selection_set.node);
                    (self.fold_field)(&field.node, below)
                }
                Selection::InlineFragment(inline) => self.fold_set(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => self.fold_fragment(&spread.node.fragment_name.node),
            };
            (self.combine)(figure, next)
        })
    }

    fn fold_fragment(&mut self, name: &'d Name) -> T {
        if let Some(&figure) = self.fragment_results.get(name) {
            return figure;
        }
        let Some(fragment) = self.document.fragments.get(name) else { return T::default() };
        // Within itself, a fragment counts for nothing.
        self.fragment_results.insert(name, T::default());
        let figure = self.fold_set(&fragment.node.selection_set.node);
        self.fragment_results.insert(name, figure);
        figure
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    /// What GraphiQL asks for: `getIntrospectionQuery` of graphql-js 16.15 with all its options.
    const INTROSPECTION: &str = "
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

    /// A figure of a document's only operation.
    fn of<T>(document: &str, figure: fn(&ExecutableDocument, &OperationDefinition) -> T) -> T {
        let document = parse_query(document).unwrap();
        figure(&document, &select(&document, None).unwrap().node)
    }

    #[test]
    fn the_operation_is_chosen_by_its_name() {
        let missing = OperationError::MissingOperationName;
        let unknown = |name: &str| OperationError::UnknownOperation(name.to_owned());
        for (document, name, chosen) in [
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
            assert_eq!(select(&document, name).map(|operation| operation.node.ty), chosen);
        }
    }

    #[test]
    fn depth_is_that_of_fields_through_fragments() {
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
            assert_eq!(of(document, depth), expected, "{document}");
        }
        let doubling: String =
            (0..40).map(|n| format!("fragment F{n} on T {{ a {{ ...F{0} ...F{0} }} }}", n + 1)).collect();
        assert_eq!(of(&(doubling + "{ ...F0 }"), depth), 40);
    }

    #[test]
    fn introspection_is_as_large_as_tools_need() {
        for (document, allowed) in [
            (INTROSPECTION, true),
            ("{ __type(name: \"A\") { fields { type { fields { type { fields { name } } } } } } }", true),
            ("{ __type(name: \"A\") { fields { type { fields { type { fields { args { name } } } } } } } }", false),
            ("{ __schema { types { fields { type { fields { name } } } } } }", true),
            ("{ __schema { types { fields { type { a: fields { name } b: fields { name } } } } } }", false),
            ("{ ...F ...F } fragment F on Query { __schema { types { fields { args { name } } } } }", false),
            ("{ types { fields { fields { fields { fields { args } } } } } __typename }", true),
        ] {
            assert_eq!(of(document, check_introspection).is_ok(), allowed, "{document}");
            assert_eq!(of(document, reads_schema), document.contains("__schema"), "{document}");
        }
    }

    #[test]
    fn a_subscription_has_one_root_field() {
        for (document, expected) in [
            ("{ a b }", Ok(())),
            ("subscription { a { b c } }", Ok(())),
            ("subscription { ...F } fragment F on S { ... on S { a } }", Ok(())),
            ("subscription { ...F ...F } fragment F on S { a ...F }", Ok(())),
            ("subscription { a b }", Err(OperationError::MultipleRootFields)),
            ("subscription { a ...F } fragment F on S { b }", Err(OperationError::MultipleRootFields)),
            ("subscription { ...Unknown }", Err(OperationError::MultipleRootFields)),
            ("subscription { a: __typename }", Err(OperationError::IntrospectionRootField)),
            ("subscription { ... @include(if: true) { a } }", Err(OperationError::ConditionalRootField)),
        ] {
            assert_eq!(of(document, check_single_root), expected, "{document}");
        }
    }

    #[test]
    fn what_the_root_field_alone_is_given_is_no_matter_of_its_events() {
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
    fn the_root_field_in_a_fragment_is_selected_directly_too() {
        for (document, selections) in [
            ("subscription { ...F } fragment F on S { ... on S { b: a { c } } }", 2),
            ("subscription A { ...F } fragment F on S { a }", 2),
            ("subscription { a { b } }", 1),
            ("{ ...F } fragment F on Query { a }", 1),
        ] {
            let mut document = parse_query(document).unwrap();
            hoist_single_root(&mut document, None).unwrap();
            let items = &select(&document, None).unwrap().node.selection_set.node.items;
            assert_eq!(items.len(), selections);
        }
    }
}
