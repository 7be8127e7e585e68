// GraphQL over HTTP, held to its specification by the audits of npm `graphql-http`. An audit that
// isn't met "warns" where the specification says SHOULD and is a "notice" where it says MAY: here
// all of them must be met.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { serverAudits } from 'graphql-http'
import { httpUrl, person, post } from './helpers.ts'

const { headers } = person(`org-${randomUUID()}`, 'Auditor')

const withToken: typeof fetch = (url, init) => {
  const all = new Headers(init?.headers)
  all.set('authorization', headers.authorization)
  return fetch(url, { ...init, headers: all })
}

test('a person with a token meets every audit', (t) => audit(t, withToken))
test('a stranger meets every audit', (t) => audit(t, fetch))

// The audits ask for an anonymous mutation only; a named one takes another way through some parsers.
test('a named mutation is refused by GET', async () => {
  const query = encodeURIComponent('mutation Named { __typename }')
  const response = await withToken(`${httpUrl}?query=${query}&operationName=Named`)
  assert.equal(response.status, 405)
  assert.equal(response.headers.get('allow'), 'POST')
})

test('a stranger is told that introspection is not for them', async () => {
  const { data, errors } = await post({}, { query: '{ __schema { queryType { name } } }' })
  assert.deepEqual(errors?.map(({ extensions }) => extensions?.code), ['UNAUTHENTICATED'])
  assert.equal(data ?? null, null)
})

async function audit(t: { test: typeof test }, fetchFn: typeof fetch) {
  const audits = serverAudits({ url: httpUrl, fetchFn })
  assert.equal(audits.length, 61)
  for (const { id, name, fn } of audits) {
    await t.test(`${id} ${name}`, async () => {
      const result = await fn()
      assert.equal(result.status, 'ok', 'reason' in result ? result.reason : undefined)
    })
  }
}
