// Calls, by the page of examples/call in real Chromium pages that know each other through Parlor alone.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, afterEach, before, suite, test } from 'node:test'
import { type Caller, type Kind, type Options, stage, type Stage } from './callers.ts'
import { CallHistoryDocument, CreateChatDocument, MissedCallsDocument, ViewerDocument } from './generated/operations.ts'
import { eventually, httpUrl, type Person, person, twoPeople } from './helpers.ts'

// Where calls ring for 5 seconds, and go through a relay if the page wants it.
const callsUrl = process.env.PARLOR_TEST_CALLS_URL

suite('calls', { skip: callsUrl ? false : 'PARLOR_TEST_CALLS_URL is not set' }, () => {
  const relayed = new URL(callsUrl ?? httpUrl).origin
  const direct = new URL(httpUrl).origin
  const graphql = `${relayed}/graphql`
  let scene: Stage
  let open: Caller[] = []

  before(async () => void (scene = await stage()))
  after(() => scene?.close())

  async function enter(who: Person, chatId: string, options: Options) {
    const caller = await scene.caller(who, chatId, options)
    open.push(caller)
    return caller
  }

  /** The pages of a story go with it, and have had nothing to complain of. */
  async function leave() {
    const left = open
    open = []
    for (const { page } of left) await page.context().close()
    assert.deepEqual(left.flatMap(({ complaints }) => complaints), [])
  }

  const history = async (who: Person, chatId: string) => (await who.ask(CallHistoryDocument, { chatId })).calls.nodes

  /** By how much a counter of what arrives from the one other person grows in the next second of sound. */
  async function grows(caller: Caller, kind: Kind, counter: string) {
    const count = async (kind: Kind, counter: string) => {
      const [first] = (await caller.received(kind, counter)).tracks.values()
      return first!
    }
    const samples = () => count('audio', 'totalSamplesReceived')
    const [began, before] = [await samples(), await count(kind, counter)]
    await eventually(async () => assert.ok((await samples()) > began + 48_000, 'no sound'))
    return (await count(kind, counter)) - before
  }

  for (const [way, options] of [
    ['straight', { server: direct }],
    ['through a relay', { server: relayed, relay: true }],
  ] as const) {
    suite(`of two people, ${way}`, () => {
      let alice: Caller
      let bob: Caller
      let chatId: string

      before(async () => {
        const people = await twoPeople(new URL('/graphql', options.server).href)
        chatId = people.chatId
        alice = await enter(people.alice, chatId, options)
        bob = await enter(people.bob, chatId, options)
      })
      after(leave)

      test('one calls and the other answers', async () => {
        await alice.press('Video call')
        await bob.reads('ringing', 'Alice calls (video)')
        await bob.press('Answer')
        await alice.reads('participants', 'Bob: connected, microphone on, camera on, screen off')
        await bob.reads('participants', 'Alice: connected, microphone on, camera on, screen off')
        await bob.stopsRinging()
      })

      test('sound and pictures flow both ways', async () => {
        await Promise.all([alice.receives(), bob.receives()])
        await alice.shows('Bob')
        await bob.shows('Alice')
      })

      if ('relay' in options) {
        test('and through the relay alone', async () => {
          assert.deepEqual(await alice.routes(), [['relay', 'relay']])
          assert.deepEqual(await bob.routes(), [['relay', 'relay']])
        })
      }

      test('one who mutes the microphone is silent', async () => {
        await alice.press('Microphone')
        await bob.reads('participants', 'Alice: connected, microphone off, camera on')
        // Packets go on, with silence in them; the false microphone beeps twice a second.
        const loudness = () => grows(bob, 'audio', 'totalAudioEnergy')
        await eventually(async () => assert.ok((await loudness()) < 1e-7, 'Alice is heard'), 15_000)
        await alice.press('Microphone')
        await bob.reads('participants', 'Alice: connected, microphone on')
        await eventually(async () => assert.ok((await loudness()) > 1e-7, 'Alice is not heard'), 15_000)
      })

      test('one who turns the camera off is not seen', async () => {
        await alice.press('Camera')
        await bob.reads('participants', 'Alice: connected, microphone on, camera off')
        await eventually(async () => assert.equal(await grows(bob, 'video', 'framesDecoded'), 0), 15_000)
        await alice.press('Camera')
        await bob.reads('participants', 'Alice: connected, microphone on, camera on')
        await bob.receives()
      })

      test('a shared screen is a stream more, until it ends', async () => {
        await alice.press('Share screen')
        await bob.shows('Alice', "Alice's screen")
        await bob.reads('participants', 'Alice: connected, microphone on, camera on, screen on')
        await alice.press('Share screen')
        await bob.shows('Alice')
        await bob.reads('participants', /Alice: .* screen off/)
      })

      test('both change what they send at once, and both arrive', async () => {
        await Promise.all([alice.press('Share screen'), bob.press('Share screen')])
        await Promise.all([bob.shows('Alice', "Alice's screen"), alice.shows('Bob', "Bob's screen")])
        await Promise.all([alice.press('Share screen'), bob.press('Share screen')])
        await Promise.all([bob.shows('Alice'), alice.shows('Bob')])
        await Promise.all([alice.receives(), bob.receives()])
      })

      test('a connection that fails is tried anew by either side', async () => {
        for (const one of [alice, bob]) {
          const before = [await alice.fragment(), await bob.fragment()]
          await one.fails()
          await eventually(async () => {
            assert.notEqual(await alice.fragment(), before[0])
            assert.notEqual(await bob.fragment(), before[1])
          })
          await Promise.all([alice.receives(), bob.receives()])
        }
      })

      test('one whose socket is cut stays, and gets what was sent meanwhile', async () => {
        const joined = (await history(alice.who, chatId))[0]!.participants
        await bob.line.cut()
        await alice.press('Share screen')
        await alice.reads('participants', /Alice: .* screen on/)
        await Promise.all([alice.receives(), bob.receives()])
        await bob.shows('Alice')

        bob.line.mend()
        await bob.shows('Alice', "Alice's screen")
        await bob.receives(1, 1)
        assert.deepEqual((await history(alice.who, chatId))[0]!.participants, joined)
        assert.deepEqual([await alice.made(), await bob.made()], [1, 1], 'a connection was made anew')
      })

      test('one who loads the page again joins again', async () => {
        await bob.page.reload()
        await bob.press('Join the call')
        await Promise.all([alice.receives(), bob.receives(1, 1)])
        await bob.shows('Alice', "Alice's screen")
        assert.deepEqual([await alice.made(), await bob.made()], [2, 1])
      })

      test('how good it was is known', () =>
        eventually(async () => {
          const { quality } = (await history(alice.who, chatId))[0]!
          assert.ok(quality && quality.reports > 0, 'no reports')
          assert.ok(quality.averageBitrateKbps! > 0, 'no bitrate')
        }, 10_000))

      test('one hangs up, and it is history', async () => {
        await alice.hangsUp()
        await alice.isFree()
        await bob.isFree()
        await alice.reads('history', /^outgoing video call of Alice: \d+:\d\d$/)
        await bob.reads('history', /^incoming video call of Alice: \d+:\d\d$/)
        await bob.reads('messages', /^Alice started a call\s+The call ended after \d+:\d\d$/)
        const [call] = await history(bob.who, chatId)
        assert.equal(call!.endReason, 'COMPLETED')
        assert.ok(call!.durationSeconds! > 0, 'it took no time')
      })
    })
  }

  suite('of more devices than two', () => {
    afterEach(leave)

    test('three people each see the two others, and two go on when one leaves', async () => {
      const org = `org-${randomUUID()}`
      const people = ['Alice', 'Bob', 'Carol'].map((name) => person(org, name))
      for (const who of people) await who.ask(ViewerDocument)
      const memberIds = people.slice(1).map(({ id }) => id)
      const created = await people[0]!.ask(CreateChatDocument, { input: { kind: 'GROUP', title: 'Three', memberIds } })
      const chatId = created.createChat!.chat.id
      const callers: Caller[] = []
      for (const who of people) callers.push(await enter(who, chatId, { server: direct }))
      const [alice, bob, carol] = callers as [Caller, Caller, Caller]

      await alice.press('Video call')
      await bob.press('Answer')
      await Promise.all([alice.receives(), bob.receives()])
      await carol.press('Answer')
      await Promise.all(callers.map((caller) => caller.receives(2)))
      await bob.shows('Alice', 'Carol')

      await alice.hangsUp()
      await Promise.all([bob.receives(), carol.receives()])
      await bob.shows('Carol')
      await bob.hangsUp()
      await carol.hangsUp()
      await alice.reads('history', /^outgoing video call of Alice: \d+:\d\d$/)
    })

    test('where one device answers, the other one of the same person stops ringing', async () => {
      const people = await twoPeople()
      const alice = await enter(people.alice, people.chatId, { server: direct })
      const phone = await enter(people.bob, people.chatId, { server: direct })
      const laptop = await enter(people.bob, people.chatId, { server: direct })

      await alice.press('Audio call')
      await phone.reads('ringing', 'Alice calls (audio)')
      await laptop.reads('ringing', 'Alice calls (audio)')
      await laptop.press('Answer')
      await alice.reads('participants', 'Bob: connected, microphone on, camera off')
      await phone.stopsRinging()
      // One is in a call by one device at a time.
      await phone.press('Join the call')
      await phone.reads('status', 'CONFLICT')
      await laptop.hangsUp()
      await phone.reads('history', /^incoming audio call of Alice: \d+:\d\d$/)
    })
  })

  suite('without a socket for long', () => {
    afterEach(leave)

    test('one who is away for too long has left, and comes in again by itself', async () => {
      const people = await twoPeople()
      const alice = await enter(people.alice, people.chatId, { server: direct })
      const bob = await enter(people.bob, people.chatId, { server: direct })

      await alice.press('Video call')
      await bob.press('Answer')
      await Promise.all([alice.receives(), bob.receives()])
      await bob.line.cut()
      await alice.reads('participants', 'Bob: left', 25_000)
      await alice.shows()
      bob.line.mend()
      await Promise.all([alice.receives(), bob.receives()])
      await alice.shows('Bob')
      assert.deepEqual([await alice.made(), await bob.made()], [2, 2])
      await bob.hangsUp()
      await alice.isFree()
    })
  })

  suite('that nobody takes', () => {
    afterEach(leave)

    test('one that nobody answers is missed, and says so', async () => {
      const people = await twoPeople(graphql)
      const alice = await enter(people.alice, people.chatId, { server: relayed })
      const bob = await enter(people.bob, people.chatId, { server: relayed })

      await alice.press('Audio call')
      await bob.reads('ringing', 'Alice calls')
      await bob.reads('status', 'You missed a call of Alice.')
      await bob.stopsRinging()
      await alice.reads('history', /^outgoing audio call of Alice: missed$/)
      await bob.reads('history', /^incoming audio call of Alice: missed$/)
      await bob.reads('messages', 'Alice called, and nobody answered')

      const [call] = await history(bob.who, people.chatId)
      const { notifications } = (await bob.who.ask(MissedCallsDocument)).viewer
      const missed = { id: call!.id, endReason: 'MISSED' }
      assert.deepEqual(notifications.nodes, [{ kind: 'MISSED_CALL', actor: { id: alice.who.id }, call: missed }])
    })

    test('one that is declined stops at once', async () => {
      const people = await twoPeople()
      const alice = await enter(people.alice, people.chatId, { server: direct })
      const bob = await enter(people.bob, people.chatId, { server: direct })

      await alice.press('Video call')
      await bob.press('Decline')
      await alice.reads('history', /^outgoing video call of Alice: declined$/)
      await alice.isFree()
      await bob.stopsRinging()
    })
  })
})
