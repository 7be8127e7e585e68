// Checks GraphQL over HTTP by the audits of npm `graphql-http`. If an audit fails, its status is "warn" where the
// specification says SHOULD and "notice" where it says MAY. Here all audits must pass.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { serverAudits } from 'graphql-http'
import { createUser, httpUrl, post } from './helpers.ts'

const { headers } = createUser(`org-${randomUUID()}`, 'Auditor')

const withToken: typeof fetch = (url, init) => {
  const all = new Headers(init?.headers)
  all.set('authorization', headers.authorization)
  return fetch(url, { ...init, headers: all })
}

test('a user with a token passes every audit', (t) => audit(t, withToken))
test('a client without a token passes every audit', (t) => audit(t, fetch))

// The audits only send an anonymous mutation, and some parsers treat a named one differently.
test('GET rejects a named mutation', async () => {
  const query = encodeURIComponent('mutation Named { __typename }')
  const response = await withToken(`${httpUrl}?query=${query}&operationName=Named`)
  assert.equal(response.status, 405)
  assert.equal(response.headers.get('allow'), 'POST')
})

test('introspection without a token fails with UNAUTHENTICATED', async () => {
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
