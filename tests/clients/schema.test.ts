// Front-end developers generate their types from schema.graphql: graphql-js must accept it, every element must have a
// description, and the running server must have exactly this schema.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import {
  buildClientSchema,
  getIntrospectionQuery,
  type GraphQLSchema,
  type IntrospectionQuery,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
  isSpecifiedScalarType,
  lexicographicSortSchema,
  printSchema,
  validateSchema,
} from 'graphql'
import { createUser, post, readSchema } from './helpers.ts'

test('graphql-js validates the schema without errors', () => {
  assert.deepEqual(validateSchema(readSchema()), [])
})

test('every type, field, argument and enum value has a description', () => {
  const undescribed = describedElements(readSchema()).filter(({ description }) => !description?.trim())
  assert.deepEqual(undescribed.map(({ path }) => path), [])
})

test('the running server has the schema in the file', async () => {
  const alice = createUser(`org-${randomUUID()}`, 'Alice')
  const query = getIntrospectionQuery({ specifiedByUrl: true, inputValueDeprecation: true })
  const { data, errors } = await post(alice.headers, { query })
  assert.equal(errors, undefined)
  assert.equal(printSorted(buildClientSchema(data as IntrospectionQuery)), printSorted(readSchema()))
})

const printSorted = (schema: GraphQLSchema) => printSchema(lexicographicSortSchema(schema))

type Described = { path: string; description?: string | null }

function describedElements(schema: GraphQLSchema): Described[] {
  const found: Described[] = []
  for (const type of Object.values(schema.getTypeMap())) {
    if (isIntrospectionType(type) || isSpecifiedScalarType(type)) continue
    found.push({ path: type.name, description: type.description })

    if (isObjectType(type) || isInterfaceType(type)) {
      for (const field of Object.values(type.getFields())) {
        const path = `${type.name}.${field.name}`
        found.push({ path, description: field.description })
        found.push(...field.args.map(({ name, description }) => ({ path: `${path}(${name}:)`, description })))
      }
    } else if (isInputObjectType(type)) {
      const fields = Object.values(type.getFields())
      found.push(...fields.map(({ name, description }) => ({ path: `${type.name}.${name}`, description })))
    } else if (isEnumType(type)) {
      found.push(...type.getValues().map(({ name, description }) => ({ path: `${type.name}.${name}`, description })))
    }
  }
  return found
}
