// scalars.ts
/** The types of the scalars in responses and variables: the option `scalars` of GraphQL Code Generator. */
export const scalars = { DateTime: 'string', URL: 'string', JSON: 'unknown' }
