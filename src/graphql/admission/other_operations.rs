//! Variables of the operations of a document that do not run.
//!
//! Several operations may define a variable of the same name, each with another type. async-graphql compares the values
//! of the request with the arguments of every fragment, even if only another operation spreads it. The variables of
//! these fragments get a name that has no value, and the operations that spread them define it. So they are still
//! validated, but by their types only.

use std::collections::{HashMap, HashSet};

use async_graphql::Name;
use async_graphql::parser::types::{
    Directive, DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql_value::Value;

use crate::graphql::admission::operation::{collect_directive_variables, collect_variables, select};

/// Separates the variables of the operation that runs from those of fragments that it does not spread.
///
/// It recurses as deep as the document nests, which
/// [`document_limits`](crate::graphql::admission::document_limits) has bounded.
pub fn separate_variables(document: &mut ExecutableDocument, name: Option<&str>) {
    if document.operations.iter().len() < 2 || document.fragments.is_empty() {
        return;
    }
    let Ok(selected) = select(document, name) else { return };
    let definitions = selected.node.variable_definitions.iter();
    let own: HashSet<Name> = definitions.map(|definition| definition.node.name.node.clone()).collect();
    let reached = reachable_fragments(document, &selected.node.selection_set.node);
    let foreign = foreign_variables(document, &own, &reached);
    let DocumentOperations::Multiple(operations) = &document.operations else { return };
    if foreign.is_empty() {
        return;
    }
    let others = operations.iter().filter(|(other, _)| Some(other.as_str()) != name);
    let usages: HashMap<Name, Usage> =
        others.map(|(other, operation)| (other.clone(), Usage::of(document, &operation.node, &foreign))).collect();
    for fragment in foreign.keys() {
        if let Some(fragment) = document.fragments.get_mut(fragment) {
            rename_in_set(&mut fragment.node.selection_set.node, &own);
        }
    }
    let DocumentOperations::Multiple(operations) = &mut document.operations else { return };
    for (name, usage) in usages {
        if let Some(operation) = operations.get_mut(&name) {
            usage.define_renamed(&mut operation.node);
        }
    }
}

/// The variables of an operation that does not run.
struct Usage {
    /// The variables that fragments use under another name.
    renamed: HashSet<Name>,
    /// The variables that are used under their own name.
    kept: HashSet<Name>,
}

impl Usage {
    fn of(
        document: &ExecutableDocument,
        operation: &OperationDefinition,
        foreign: &HashMap<Name, HashSet<Name>>,
    ) -> Self {
        let (mut renamed, mut kept) = (HashSet::new(), HashSet::new());
        let set = &operation.selection_set.node;
        collect_variables(set, &mut kept);
        operation.directives.iter().for_each(|directive| collect_directive_variables(&directive.node, &mut kept));
        for name in reachable_fragments(document, set) {
            let Some(fragment) = document.fragments.get(&name) else { continue };
            let directives = fragment.node.directives.iter();
            directives.for_each(|directive| collect_directive_variables(&directive.node, &mut kept));
            match foreign.get(&name) {
                Some(variables) => renamed.extend(variables.iter().cloned()),
                None => collect_variables(&fragment.node.selection_set.node, &mut kept),
            }
        }
        Self { renamed, kept }
    }

    /// Defines the renamed variables as the original ones, and removes those that nothing uses any longer.
    fn define_renamed(&self, operation: &mut OperationDefinition) {
        let definitions = &mut operation.variable_definitions;
        let is_renamed = |name: &Name| self.renamed.contains(name);
        let mut copies: Vec<_> =
            definitions.iter().filter(|definition| is_renamed(&definition.node.name.node)).cloned().collect();
        for copy in &mut copies {
            copy.node.name.node = name_elsewhere(&copy.node.name.node);
        }
        definitions.retain(|definition| {
            let name = &definition.node.name.node;
            !is_renamed(name) || self.kept.contains(name)
        });
        definitions.extend(copies);
    }
}

/// Returns the name of a variable in a fragment of another operation, which an error may show.
fn name_elsewhere(name: &Name) -> Name {
    Name::new(format!("{name}_of_another_operation"))
}

/// Returns the unreached fragments that use variables of these names, with the names that they use.
fn foreign_variables(
    document: &ExecutableDocument,
    own: &HashSet<Name>,
    reached: &HashSet<Name>,
) -> HashMap<Name, HashSet<Name>> {
    let unreached = document.fragments.iter().filter(|(name, _)| !reached.contains(*name));
    let with_variables = unreached.map(|(name, fragment)| {
        let mut used = HashSet::new();
        collect_variables(&fragment.node.selection_set.node, &mut used);
        used.retain(|variable| own.contains(variable));
        (name.clone(), used)
    });
    with_variables.filter(|(_, used)| !used.is_empty()).collect()
}

/// Returns the names of the fragments that a selection set spreads, also through other fragments.
fn reachable_fragments(document: &ExecutableDocument, set: &SelectionSet) -> HashSet<Name> {
    let mut reached = HashSet::new();
    let mut sets = vec![set];
    while let Some(set) = sets.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => sets.push(&field.node.selection_set.node),
                Selection::InlineFragment(inline) => sets.push(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if reached.insert(name.clone())
                        && let Some(fragment) = document.fragments.get(name)
                    {
                        sets.push(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
    reached
}

fn rename_in_set(set: &mut SelectionSet, names: &HashSet<Name>) {
    for selection in &mut set.items {
        match &mut selection.node {
            Selection::Field(field) => {
                field.node.arguments.iter_mut().for_each(|(_, value)| rename_in_value(&mut value.node, names));
                rename_in_directives(field.node.directives.iter_mut().map(|directive| &mut directive.node), names);
                rename_in_set(&mut field.node.selection_set.node, names);
            }
            Selection::InlineFragment(inline) => {
                rename_in_directives(inline.node.directives.iter_mut().map(|directive| &mut directive.node), names);
                rename_in_set(&mut inline.node.selection_set.node, names);
            }
            Selection::FragmentSpread(spread) => {
                rename_in_directives(spread.node.directives.iter_mut().map(|directive| &mut directive.node), names);
            }
        }
    }
}

fn rename_in_directives<'d>(directives: impl Iterator<Item = &'d mut Directive>, names: &HashSet<Name>) {
    for directive in directives {
        directive.arguments.iter_mut().for_each(|(_, value)| rename_in_value(&mut value.node, names));
    }
}

fn rename_in_value(value: &mut Value, names: &HashSet<Name>) {
    match value {
        Value::Variable(name) if names.contains(name) => *name = name_elsewhere(name),
        Value::List(items) => items.iter_mut().for_each(|item| rename_in_value(item, names)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename_in_value(field, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    /// Separates the variables of operation A, and returns the sorted ones that an operation defines.
    fn definitions(document: &str, operation: &str) -> Vec<String> {
        let mut document = parse_query(document).unwrap();
        separate_variables(&mut document, Some("A"));
        let definitions = &select(&document, Some(operation)).unwrap().node.variable_definitions;
        let mut names: Vec<_> = definitions.iter().map(|definition| definition.node.name.node.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn variable_of_a_fragment_of_another_operation_is_renamed() {
        let document = "
            query A($x: Int, $y: Int) { a(x: $x, y: $y) ...Shared }
            query B($x: ID, $z: ID) { ...OfB @include(if: $z) }
            query C($x: ID) { c(x: $x) ...OfB ...Shared }
            query D($x: ID) { d(x: $x) }
            fragment Shared on T { s(x: $x) }
            fragment OfB on T { b(x: [{ y: $x }], z: $z) @d(x: $x) { ... @d(x: $x) { ...Nested @d(x: $x) } } }
            fragment Nested on T { n(y: $y) }";
        assert_eq!(definitions(document, "A"), ["x", "y"]);
        assert_eq!(definitions(document, "B"), ["x_of_another_operation", "z"]);
        assert_eq!(definitions(document, "C"), ["x", "x_of_another_operation"]);
        assert_eq!(definitions(document, "D"), ["x"]);
        let mut parsed = parse_query(document).unwrap();
        separate_variables(&mut parsed, Some("A"));
        for (fragment, expected) in [
            ("Shared", vec!["x"]),
            ("OfB", vec!["x_of_another_operation", "z"]),
            ("Nested", vec!["y_of_another_operation"]),
        ] {
            let mut used = HashSet::new();
            collect_variables(&parsed.fragments[fragment].node.selection_set.node, &mut used);
            let mut used: Vec<_> = used.iter().map(Name::as_str).collect();
            used.sort_unstable();
            assert_eq!(used, expected, "{fragment}");
        }
    }

    #[test]
    fn document_with_one_operation_is_left_unchanged() {
        for document in ["query A($x: Int) { a(x: $x) } fragment F on T { f(x: $x) }", "query A($x: Int) { a(x: $x) }"]
        {
            assert_eq!(definitions(document, "A"), ["x"]);
        }
    }
}
