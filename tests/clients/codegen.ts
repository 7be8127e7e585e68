import type { CodegenConfig } from '@graphql-codegen/cli'
import { scalars } from './recipes/scalars.ts'

const output = {
  plugins: ['typescript-operations', 'typed-document-node'],
  config: { useTypeImports: true, enumType: 'string-literal', scalars },
}

export default {
  schema: '../../schema.graphql',
  generates: {
    'generated/operations.ts': { documents: 'operations/*.graphql', ...output },
    'recipes/operations.ts': { documents: 'recipes/operations.graphql', ...output },
  },
} satisfies CodegenConfig
