// The front end of frontend.ts is Alice's. Everything that can happen in Parlor happens around her
// (everything.ts), mixed at random; what she is shown must come to be, field by field, what a client
// with no cache is answered.

import assert from 'node:assert/strict'
import { randomInt, randomUUID } from 'node:crypto'
import { suite, test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import { buildClientSchema, getIntrospectionQuery, type IntrospectionQuery } from 'graphql'
import { type Actor, type Cast, makeChat, openDirectChat, type Scene, scenes } from './everything.ts'
import { arranged, FrontEnd } from './frontend.ts'
import { ChatListDocument, ChatWindowDocument, JustSendDocument, ViewerDocument } from './generated/operations.ts'
import { consoleStaysSilent, eventually, person, type Person, post, withoutTypenames } from './helpers.ts'

/** Another run with the same seed mixes the scenes alike; times are the machine's. */
const SEED = Number(process.env.PARLOR_TEST_SEED ?? randomInt(1_000_000))

/** How many steps of the story between two looks at what is shown. */
const STEPS = 25

suite(`a front end (PARLOR_TEST_SEED=${SEED})`, { concurrency: false }, () => {
  test('keeps right through everything, by its feeds', async (t) => {
    const stage = await Stage.set(t)
    for await (const _ of mixed(stage.scenes(), STEPS)) await stage.isRight()
    await stage.isRight()
    t.diagnostic(`asked over the network: ${JSON.stringify(stage.frontEnd.asked)}`)
  })

  test('keeps right through everything with its line cut again and again', async (t) => {
    const stage = await Stage.set(t)
    let cuts = 0
    const stopped = new AbortController()
    const cutting = (async () => {
      while (!stopped.signal.aborted) {
        await sleep(100 + chance(700))
        // Mostly it comes back at once, sometimes after much has happened.
        stage.frontEnd.cut(chance(4) === 0 ? sleep(chance(600)) : undefined)
        cuts++
      }
    })()
    for await (const _ of mixed(stage.scenes(), STEPS * 3)) await stage.isRight()
    stopped.abort()
    await cutting
    await stage.isRight()
    t.diagnostic(`cut ${cuts} times; asked over the network: ${JSON.stringify(stage.frontEnd.asked)}`)
  })

  test('keeps right when it missed too much to be told', async (t) => {
    const { frontEnd, cast, isRight } = await Stage.set(t)
    let comeBack = () => {}
    frontEnd.cut(new Promise((resolve) => (comeBack = resolve)))
    // More than a feed is told one by one.
    for (let said = 0; said <= 1_000; said += 40) await sayMuch(cast.bob, cast.team, 40)
    comeBack()
    await isRight()
  })

  test('was shown every mutation of the schema', async () => {
    const { headers } = person(`org-${randomUUID()}`, 'Alice')
    const { data } = await post(headers, { query: getIntrospectionQuery() })
    const mutations = Object.keys(buildClientSchema(data as IntrospectionQuery).getMutationType()!.getFields())
    // Those of tokens change nothing that a front end shows; the stories of sessions have them.
    const ofTokens = ['renewSession', 'revokeSessions']
    const shown = mutations.filter((name) => !ofTokens.includes(name))
    assert.deepEqual(shown.filter((name) => !done.has(name)), [], 'add them to a scene of everything.ts')
  })
})

/** The people, their first chats, and Alice's front end. */
class Stage {
  readonly frontEnd: FrontEnd
  readonly cast: Cast
  readonly #alice: Person

  static async set(t: TestContext) {
    consoleStaysSilent(t)
    const org = `org-${randomUUID()}`
    const [alice, bob, carol] = [person(org, 'Alice'), person(org, 'Bob'), person(org, 'Carol')]
    const mona = person(org, 'Mona', ['chat.view', 'chat.moderate'])
    // A person is known to the server from their first request on.
    for (const who of [alice, bob, carol, mona]) await who.ask(ViewerDocument)
    const team = await makeChat(bob, [alice, carol], { title: 'The team' })
    const direct = await openDirectChat(bob, alice)

    const frontEnd = await FrontEnd.open(alice)
    t.after(() => frontEnd.close())
    const inFront: Actor = { id: alice.id, ask: (mutation, variables) => frontEnd.mutate(mutation, variables) }
    const cast = { alice: inFront, aliceElsewhere: alice, bob, carol, mona, team, direct }
    return new Stage(frontEnd, noting(cast), alice)
  }

  constructor(frontEnd: FrontEnd, cast: Cast, alice: Person) {
    this.frontEnd = frontEnd
    this.cast = cast
    this.#alice = alice
  }

  scenes = () => Object.entries(scenes).map(([name, scene]): [string, ReturnType<Scene>] => [name, scene(this.cast)])

  /** What is shown comes to be what the server answers: the list, and each chat's window. */
  isRight = async () => {
    let found = await this.#difference()
    // To say how two large answers differ takes seconds, in which nothing else would go on: so that
    // is said once it is sure that they do.
    const isGone = async () => assert.ok(!(found = await this.#difference()), 'what is shown is not right')
    await eventually(isGone, 15_000).catch(() => assert.deepEqual(found?.shown, found?.answer))
  }

  async #difference() {
    const lists = [false, true].map((archived) => this.#alice.ask(ChatListDocument, { archived }))
    const answer = arranged(await Promise.all(lists))
    const shown = this.frontEnd.list()
    if (!isDeepStrictEqual(shown && withoutTypenames(shown), answer)) return { shown, answer }
    for (const { id } of [...answer.chats, ...answer.archived]) {
      const answer = await this.#alice.ask(ChatWindowDocument, { chatId: id })
      const shown = withoutTypenames(this.frontEnd.window(id) ?? null)
      if (!isDeepStrictEqual(shown, answer)) return { shown, answer }
    }
    return undefined
  }
}

/** Plays scenes, each a step at a time, whichever comes; yields after every so many steps. */
async function* mixed(scenes: [string, AsyncGenerator<void>][], steps: number) {
  let step = 0
  while (scenes.length > 0) {
    const [name, scene] = scenes[chance(scenes.length)]!
    try {
      const { done } = await scene.next()
      if (done) scenes = scenes.filter(([other]) => other !== name)
    } catch (cause) {
      throw new Error(`the scene "${name}" went wrong`, { cause })
    }
    if (++step % steps === 0) yield
  }
}

/** A number below another, from the seed: Mulberry32. */
let state = SEED
function chance(below: number) {
  state = (state + 0x6d2b79f5) | 0
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below
}

/** The mutations that were done. */
const done = new Set<string>()

/** The same cast, whose mutations are noted. */
function noting(cast: Cast): Cast {
  const noted = (who: Actor): Actor => ({
    id: who.id,
    async ask(document, variables) {
      const answer = await who.ask(document, variables)
      for (const field of mutationsOf(document)) done.add(field)
      return answer
    },
  })
  const { alice, aliceElsewhere, bob, carol, mona, team, direct } = cast
  const people = { alice, aliceElsewhere, bob, carol, mona }
  const all = Object.entries(people).map(([name, who]) => [name, noted(who)])
  return { ...(Object.fromEntries(all) as typeof people), team, direct }
}

const mutationsOf = ({ definitions }: Document<unknown, any>) =>
  definitions
    .flatMap((part) => (part.kind === 'OperationDefinition' && part.operation === 'mutation' ? [part.selectionSet] : []))
    .flatMap(({ selections }) => selections.flatMap((field) => (field.kind === 'Field' ? [field.name.value] : [])))

/** Many at once: their order is not of interest. */
async function sayMuch(who: Actor, chatId: string, times: number) {
  const say = (_: unknown, n: number) => who.ask(JustSendDocument, { input: { chatId, text: `number ${n}` } })
  await Promise.all(Array.from({ length: times }, say))
}
