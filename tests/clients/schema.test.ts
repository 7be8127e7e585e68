// schema.graphql is what front-end developers generate their types from: graphql-js must find it
// sound, nothing in it may go unexplained, and the running server must be what it says.

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
import { person, post, readSchema } from './helpers.ts'

test('graphql-js reads the schema and finds nothing wrong', () => {
  assert.deepEqual(validateSchema(readSchema()), [])
})

test('every type, field, argument and value is described', () => {
  const silent = everythingIn(readSchema()).filter(({ description }) => !description?.trim())
  assert.deepEqual(silent.map(({ path }) => path), [])
})

test('the running server has the schema of the file', async () => {
  const alice = person(`org-${randomUUID()}`, 'Alice')
  const query = getIntrospectionQuery({ specifiedByUrl: true, inputValueDeprecation: true })
  const { data, errors } = await post(alice.headers, { query })
  assert.equal(errors, undefined)
  assert.equal(inOrder(buildClientSchema(data as IntrospectionQuery)), inOrder(readSchema()))
})

const inOrder = (schema: GraphQLSchema) => printSchema(lexicographicSortSchema(schema))

type Described = { path: string; description?: string | null }

function everythingIn(schema: GraphQLSchema): Described[] {
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
