//! The cost of an operation: an upper bound of the fields that it resolves, weighted by their size.
//!
//! The cost is computed before anything runs, from the document, the variables and the schema. It counts every list at
//! the length that it can have: see [`costs`]. Selections of fragments count wherever the fragment is spread, but each
//! fragment is visited once.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, ExecutableDocument, Field, FieldDefinition, OperationDefinition, OperationType, Selection, SelectionSet,
    Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Positioned, Variables};
use async_graphql_value::{ConstValue, Value};
use serde::Serialize;

use crate::domain::pagination::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};
use crate::graphql::schema::costs;

/// The cost of an operation, and the limit that it must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    pub requested: usize,
    pub limit: usize,
}

impl From<Cost> for ConstValue {
    fn from(Cost { requested, limit }: Cost) -> Self {
        let entry = |name, number| (Name::new(name), Self::from(number));
        Self::Object([entry("requested", requested), entry("limit", limit)].into_iter().collect())
    }
}

/// The costs of the fields of a schema.
pub struct CostTable(HashMap<Name, FieldCosts>);

type FieldCosts = HashMap<Name, FieldCost>;

/// The cost of a field, apart from its selections.
#[derive(Debug, Clone)]
struct FieldCost {
    own: usize,
    length: Length,
    /// The type of the field without lists and non-null markers.
    output: Name,
}

/// The number of objects that a field returns at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Fixed(usize),
    /// The page arguments decide.
    Page,
    /// The length of a list argument decides.
    Argument(&'static str),
}

impl CostTable {
    /// Reads the output types of a schema from its definition.
    ///
    /// # Panics
    ///
    /// Panics if the definition cannot be parsed. async-graphql exports only definitions that it can parse.
    pub fn from_sdl(sdl: &str) -> Self {
        let lengths: HashMap<_, _> = costs::list_lengths().into_iter().collect();
        let own_costs: HashMap<_, _> = costs::FIELD_COSTS.into_iter().collect();
        let mut types = HashMap::new();
        for definition in parse_schema(sdl).expect("the schema definition is valid").definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let fields = match definition.node.kind {
                TypeKind::Object(object) => object.fields,
                TypeKind::Interface(interface) => interface.fields,
                _ => continue,
            };
            let ty = definition.node.name.node;
            let field_costs = fields.into_iter().map(|Positioned { node: field, .. }| {
                let path = format!("{ty}.{}", field.name.node);
                let cost = FieldCost {
                    own: own_costs.get(path.as_str()).copied().unwrap_or(1),
                    length: length(&ty, &field, &path, &lengths),
                    output: base_name(&field.ty.node).clone(),
                };
                (field.name.node, cost)
            });
            types.insert(ty.clone(), field_costs.collect());
        }
        Self(types)
    }

    /// Returns the cost of an operation with coerced variables.
    pub fn operation_cost(
        &self,
        document: &ExecutableDocument,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> usize {
        let root = match operation.ty {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        };
        let mut walk = CostWalk { table: self, document, variables, fragments: HashMap::new() };
        walk.selections_cost(&operation.selection_set.node, self.0.get(root))
    }
}

/// Returns how many objects a field returns; a list of unknown length counts as a full page.
fn length(ty: &str, field: &FieldDefinition, path: &str, lengths: &HashMap<&str, usize>) -> Length {
    let takes = |name: &str| field.arguments.iter().any(|argument| argument.node.name.node == name);
    let by_argument = costs::LISTS_BY_ARGUMENT.iter().find(|(listed, _)| *listed == path);
    match by_argument {
        Some((_, argument)) => Length::Argument(argument),
        None if (takes("first") || takes("last"))
            && (is_list(&field.ty.node) || is_connection(base_name(&field.ty.node))) =>
        {
            Length::Page
        }
        None if is_list(&field.ty.node) && !is_connection(ty) => {
            Length::Fixed(lengths.get(path).copied().unwrap_or(MAX_PAGE_SIZE))
        }
        None => Length::Fixed(1),
    }
}

/// Returns whether a type is a connection.
///
/// The field that returned an object of such a type has counted the length of the object's lists.
fn is_connection(ty: &str) -> bool {
    ty.ends_with("Connection")
}

fn is_list(ty: &Type) -> bool {
    matches!(ty.base, BaseType::List(_))
}

fn base_name(ty: &Type) -> &Name {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(item) => base_name(item),
    }
}

/// The computation of one operation's cost.
///
/// It recurses as deep as the document's brackets nest, which
/// [`document_limits`](crate::graphql::admission::document_limits) has bounded.
struct CostWalk<'d> {
    table: &'d CostTable,
    document: &'d ExecutableDocument,
    variables: &'d Variables,
    /// The costs of the fragments that were visited.
    fragments: HashMap<&'d Name, usize>,
}

impl<'d> CostWalk<'d> {
    /// Returns the cost of the selections of a type, or of an introspection type if it is `None`.
    fn selections_cost(&mut self, set: &'d SelectionSet, ty: Option<&'d FieldCosts>) -> usize {
        set.items.iter().fold(0, |total, selection| {
            let cost = match &selection.node {
                Selection::Field(field) => self.field_cost(&field.node, ty),
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref();
                    let ty = condition.map_or(ty, |condition| self.table.0.get(&condition.node.on.node));
                    self.selections_cost(&fragment.node.selection_set.node, ty)
                }
                Selection::FragmentSpread(spread) => self.fragment_cost(&spread.node.fragment_name.node),
            };
            usize::saturating_add(total, cost)
        })
    }

    fn fragment_cost(&mut self, name: &'d Name) -> usize {
        if let Some(&cost) = self.fragments.get(name) {
            return cost;
        }
        let Some(fragment) = self.document.fragments.get(name) else { return 0 };
        // The limits of documents exclude a fragment that spreads itself.
        let ty = self.table.0.get(&fragment.node.type_condition.node.on.node);
        let cost = self.selections_cost(&fragment.node.selection_set.node, ty);
        self.fragments.insert(name, cost);
        cost
    }

    fn field_cost(&mut self, field: &'d Field, ty: Option<&'d FieldCosts>) -> usize {
        let definition = ty.and_then(|fields| fields.get(&field.name.node));
        let output = definition.and_then(|definition| self.table.0.get(&definition.output));
        let selections = self.selections_cost(&field.selection_set.node, output);
        let Some(definition) = definition else { return selections.saturating_add(1) };
        let length = match definition.length {
            Length::Fixed(length) => length,
            Length::Page => self.page_size(field),
            Length::Argument(argument) => self.list_length(field, argument),
        };
        // A list of scalars has a cost for each of them too.
        let is_scalar_list = field.selection_set.node.items.is_empty() && definition.length != Length::Fixed(1);
        let item = if is_scalar_list { 1 } else { selections };
        length.saturating_mul(item).saturating_add(definition.own)
    }

    /// Returns the number of items that the page arguments of a field select.
    ///
    /// It is at most [`MAX_PAGE_SIZE`], because the resolver rejects larger pages.
    fn page_size(&self, field: &Field) -> usize {
        let count = ["first", "last"].into_iter().find_map(|name| match self.argument(field, name)? {
            Argument::Given(Value::Number(number)) => number.as_u64(),
            Argument::Coerced(ConstValue::Number(number)) => number.as_u64(),
            _ => None,
        });
        count.map_or(DEFAULT_PAGE_SIZE, |count| usize::try_from(count).unwrap_or(usize::MAX).min(MAX_PAGE_SIZE))
    }

    /// Returns the number of items of a list argument; a single value counts as a list of one.
    fn list_length(&self, field: &Field, name: &str) -> usize {
        match self.argument(field, name) {
            Some(Argument::Given(Value::List(items))) => items.len(),
            Some(Argument::Coerced(ConstValue::List(items))) => items.len(),
            Some(_) => 1,
            None => 0,
        }
    }

    /// Returns the value of an argument, if the field has it and its variable has a value.
    fn argument<'a>(&'a self, field: &'a Field, name: &str) -> Option<Argument<'a>> {
        match &field.get_argument(name)?.node {
            Value::Variable(variable) => self.variables.get(variable).map(Argument::Coerced),
            value => Some(Argument::Given(value)),
        }
    }
}

/// The value of an argument.
enum Argument<'a> {
    /// A literal of the document.
    Given(&'a Value),
    /// The value of a variable.
    Coerced(&'a ConstValue),
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;
    use crate::graphql::schema::sdl;

    fn cost_with(document: &str, variables: serde_json::Value) -> usize {
        let document = parse_query(document).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        CostTable::from_sdl(&sdl()).operation_cost(&document, &operation.node, &Variables::from_json(variables))
    }

    fn cost(document: &str) -> usize {
        cost_with(document, json!({}))
    }

    #[test]
    fn page_costs_its_items_times_their_selections() {
        assert_eq!(cost("{ chats(first: 40) { nodes { id } } }"), 1 + 40 * 2);
        assert_eq!(cost("{ chats { edges { node { id kind } } } }"), 1 + 30 * 4);
        assert_eq!(cost("{ chats(first: 5000) { nodes { id } } }"), 1 + 100 * 2);
        assert_eq!(cost("{ chats(first: -1) { nodes { id } } }"), 1 + 30 * 2);
        assert_eq!(cost("{ chats(first: 0) { nodes { id } } }"), 1);
        assert_eq!(cost("{ chat(id: 1) { messages(last: 7) { nodes { id } } } }"), 2 + 7 * 2);
        let paged = "query($n: Int) { chats(first: $n) { nodes { id } } }";
        assert_eq!(cost_with(paged, json!({ "n": 9 })), 1 + 9 * 2);
        assert_eq!(cost_with(paged, json!({ "n": null })), 1 + 30 * 2);
    }

    #[test]
    fn nodes_cost_their_ids() {
        assert_eq!(cost("{ nodes(ids: [1, 2, 3]) { id ... on Message { seq } } }"), 1 + 3 * 2);
        assert_eq!(cost("{ nodes(ids: 1) { id } }"), 2);
        let nodes =
            "query($ids: [ID!]!) { nodes(ids: $ids) { ...F } } fragment F on Chat { messages { nodes { id } } }";
        let ids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(cost_with(nodes, json!({ "ids": ids })), 1 + 100 * (1 + 30 * 2));
    }

    #[test]
    fn list_without_page_costs_its_maximum_length() {
        for (selection, expected) in [
            ("mentions { id }", 1 + 100),
            ("reactions { emoji count }", 1 + 20 * 2),
            ("reactions { users(first: 3) { id } }", 1 + 20 * (1 + 3)),
            ("poll { options { id voters { id } } }", 2 + 20 * (1 + 1 + 30)),
            ("readBy(first: 10) { nodes { id } }", 1 + 10 * 2),
            ("text html", 4 + 8),
            ("chat { typing { id } }", 2 + 256),
        ] {
            assert_eq!(cost(&format!("{{ message(id: 1) {{ {selection} }} }}")), 1 + expected, "{selection}");
        }
        assert_eq!(cost("{ viewer { iceServers { urls } } }"), 2 + 10 * (1 + 10));
        assert_eq!(cost("subscription { chatFeed(chatId: 1, last: 50) { __typename } }"), 2);
        let search = cost("{ searchMessages(query: \"a\", first: 1) { nodes { id } } }");
        assert!(search > 10 * cost("{ chats(first: 100) { nodes { id } } }"), "a search costs {search}");
    }

    #[test]
    fn fragment_costs_at_each_spread() {
        let doubling: String =
            (0..40).map(|n| format!("fragment F{n} on Chat {{ ...F{0} ...F{0} }} ", n + 1)).collect();
        let document = format!("{{ chat(id: 1) {{ ...F0 }} }} {doubling} fragment F40 on Chat {{ id }}");
        assert_eq!(cost(&document), 1 + (1 << 40));
        assert_eq!(cost("{ __schema { types { name } } unknown { id } }"), 5);
    }

    #[test]
    fn every_list_of_the_schema_has_a_length() {
        let lengths: HashMap<_, _> = costs::list_lengths().into_iter().collect();
        let mut paths = Vec::new();
        for definition in parse_schema(sdl()).unwrap().definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let TypeKind::Object(object) = &definition.node.kind else { continue };
            for field in &object.fields {
                let ty = &definition.node.name.node;
                let path = format!("{ty}.{}", field.node.name.node);
                let by_argument = costs::LISTS_BY_ARGUMENT.iter().any(|(listed, _)| *listed == path);
                let is_paged = length(ty, &field.node, &path, &lengths) == Length::Page;
                let is_bounded = by_argument || is_paged || is_connection(ty) || lengths.contains_key(path.as_str());
                assert!(!is_list(&field.node.ty.node) || is_bounded, "{path} has no length in schema/costs.rs");
                paths.push(path);
            }
        }
        let listed = lengths.into_keys().chain(costs::FIELD_COSTS.map(|(path, _)| path));
        for path in listed.chain(costs::LISTS_BY_ARGUMENT.map(|(path, _)| path)) {
            assert!(paths.iter().any(|known| known == path), "the schema has no field {path}");
        }
    }
}
