// write-schema.ts
import { readFileSync, writeFileSync } from 'node:fs'
import { buildSchema, introspectionFromSchema, isAbstractType } from 'graphql'

const [from = 'schema.graphql', to = 'schema.ts'] = process.argv.slice(2)
const schema = buildSchema(readFileSync(from, 'utf8'))
const abstract = Object.values(schema.getTypeMap()).filter(isAbstractType)
const possibleTypes = Object.fromEntries(
  abstract.map((type) => [type.name, schema.getPossibleTypes(type).map(({ name }) => name)]),
)
const introspection = JSON.stringify(introspectionFromSchema(schema, { descriptions: false }))
writeFileSync(
  to,
  `import type { IntrospectionQuery } from 'graphql'
export const possibleTypes: Record<string, string[]> = ${JSON.stringify(possibleTypes)}
export const introspection: IntrospectionQuery = JSON.parse(${JSON.stringify(introspection)})
`,
)
