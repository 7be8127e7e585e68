// Everything that can happen in Parlor, in scenes: each is a generator that does one thing and yields,
// so that scenes can be mixed. A scene's own steps are in the order that their sense demands.
//
// Every mutation of the schema is in here; frontend.test.ts fails if one is missing.

import type { TypedDocumentNode as Document } from '@graphql-typed-document-node/core'
import { randomUUID } from 'node:crypto'
import {
  AddMembersDocument,
  AddReactionDocument,
  ArchiveChatDocument,
  BlockWordsDocument,
  ChangeMemberRoleDocument,
  ClosePollDocument,
  CreateChatDocument,
  type CreateChatInput,
  DeclineCallDocument,
  DeleteChatDocument,
  DeleteMessageDocument,
  EditMessageDocument,
  EndCallDocument,
  EnsureResourceChatDocument,
  ForwardMessageDocument,
  JoinCallDocument,
  JoinChannelDocument,
  LeaveCallDocument,
  LeaveChatDocument,
  MarkDeliveredDocument,
  MarkNotificationsReadDocument,
  MarkReadDocument,
  MarkUnreadDocument,
  OpenDirectChatDocument,
  PinMessageDocument,
  type PollInput,
  RemoveMemberDocument,
  RemoveReactionDocument,
  ReportCallQualityDocument,
  ReportMessageDocument,
  ResolveReportDocument,
  SendMessageDocument,
  type SendMessageInput,
  SendSignalDocument,
  SetPresenceDocument,
  SetTypingDocument,
  SilenceMemberDocument,
  StartCallDocument,
  UnblockWordsDocument,
  UnpinMessageDocument,
  UpdateCallMediaDocument,
  UpdateChatDocument,
  UpdateMyMembershipDocument,
  VotePollDocument,
} from './generated/operations.ts'

export type Actor = { id: string; ask<T, V>(document: Document<T, V>, variables: V): Promise<T> }

export interface Cast {
  /** At the front end that is watched. */
  alice: Actor
  /** Alice too, at another device. */
  aliceElsewhere: Actor
  bob: Actor
  carol: Actor
  /** A moderator of the organisation. */
  mona: Actor
  /** A group of Bob's that Alice and Carol are in. */
  team: string
  /** The direct chat of Bob and Alice. */
  direct: string
}

export type Scene = (cast: Cast) => AsyncGenerator<void, void, void>

const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString()

async function say(who: Actor, chatId: string, what: string | Partial<SendMessageInput>) {
  const content = typeof what === 'string' ? { text: what } : what
  const sent = await who.ask(SendMessageDocument, { input: { chatId, nonce: randomUUID(), ...content } })
  return sent.sendMessage!.message.id
}

async function askPoll(who: Actor, chatId: string, poll: PollInput) {
  const sent = await who.ask(SendMessageDocument, { input: { chatId, poll } })
  const { id, poll: asked } = sent.sendMessage!.message
  return { messageId: id, options: asked!.options.map((option) => option.id) }
}

export async function makeChat(who: Actor, members: Actor[], more: Partial<CreateChatInput> & { title: string }) {
  const input = { kind: 'GROUP' as const, memberIds: members.map(({ id }) => id), nonce: randomUUID(), ...more }
  return (await who.ask(CreateChatDocument, { input })).createChat!.chat.id
}

export async function openDirectChat(who: Actor, other: Actor) {
  return (await who.ask(OpenDirectChatDocument, { userId: other.id })).openDirectChat!.chat.id
}

export const scenes: Record<string, Scene> = {
  async *talking({ alice, aliceElsewhere, bob, carol, team }) {
    await bob.ask(SetPresenceDocument, { input: { status: 'BUSY', currentChatId: team } })
    await bob.ask(SetTypingDocument, { input: { chatId: team, typing: true } })
    const hello = await say(bob, team, 'Hello, *everyone*!')
    yield
    await say(alice, team, { text: 'Hello, Bob.', replyToId: hello })
    yield
    await carol.ask(AddReactionDocument, { input: { messageId: hello, emoji: '👍' } })
    yield
    await aliceElsewhere.ask(AddReactionDocument, { input: { messageId: hello, emoji: '👍' } })
    yield
    await bob.ask(EditMessageDocument, { input: { messageId: hello, text: 'Hello, **all**!' } })
    yield
    await alice.ask(RemoveReactionDocument, { input: { messageId: hello, emoji: '👍' } })
    yield
    await say(bob, team, { text: 'Alice?', mentionIds: [alice.id] })
    yield
    await say(bob, team, { text: 'Everyone?', mentionsEveryone: true })
    yield
    await aliceElsewhere.ask(MarkNotificationsReadDocument, { input: {} })
    await say(aliceElsewhere, team, '🎉')
    yield
    const place = { latitude: 52.52, longitude: 13.405, name: 'Berlin', address: 'Alexanderplatz 1' }
    const here = await say(carol, team, { location: place })
    yield
    const mistake = await say(alice, team, { text: 'Nice place', replyToId: here })
    yield
    await alice.ask(DeleteMessageDocument, { input: { messageId: mistake } })
    yield
    await bob.ask(DeleteMessageDocument, { input: { messageId: hello } })
  },

  async *threads({ alice, aliceElsewhere, bob, carol, team }) {
    const root = await say(alice, team, 'What about lunch?')
    yield
    const first = await say(bob, team, { text: 'At noon?', threadRootId: root })
    yield
    const second = await say(carol, team, { text: 'Later', threadRootId: root, alsoInChat: true })
    yield
    await say(aliceElsewhere, team, { text: 'Noon is fine', threadRootId: root, replyToId: first })
    yield
    await bob.ask(EditMessageDocument, { input: { messageId: first, text: 'At half past twelve?' } })
    yield
    await carol.ask(DeleteMessageDocument, { input: { messageId: second } })
    yield
    await alice.ask(EditMessageDocument, { input: { messageId: root, text: 'What about lunch today?' } })
  },

  async *polls({ alice, aliceElsewhere, bob, carol, team }) {
    const poll = { question: 'Which days?', options: ['Monday', 'Tuesday', 'Friday'], multipleChoice: true }
    const { messageId, options } = await askPoll(bob, team, poll)
    const [monday, tuesday, friday] = options
    yield
    await alice.ask(VotePollDocument, { input: { messageId, optionIds: [monday!, friday!] } })
    yield
    await carol.ask(VotePollDocument, { input: { messageId, optionIds: [tuesday!] } })
    yield
    await aliceElsewhere.ask(VotePollDocument, { input: { messageId, optionIds: [tuesday!] } })
    yield
    await carol.ask(VotePollDocument, { input: { messageId, optionIds: [] } })
    yield
    await bob.ask(ClosePollDocument, { input: { messageId } })
    yield
    const secret = { question: 'More pay?', options: ['Yes', 'No'], anonymous: true, closesAt: inAnHour() }
    const asked = await askPoll(carol, team, secret)
    yield
    await bob.ask(VotePollDocument, { input: { messageId: asked.messageId, optionIds: [asked.options[0]!] } })
    yield
    await carol.ask(DeleteMessageDocument, { input: { messageId: asked.messageId } })
  },

  async *pins({ alice, bob, carol, team }) {
    const rules = await say(bob, team, 'The rules of the house')
    yield
    await bob.ask(PinMessageDocument, { input: { messageId: rules } })
    yield
    const more = await say(alice, team, 'One more rule')
    yield
    await bob.ask(PinMessageDocument, { input: { messageId: more } })
    yield
    await bob.ask(EditMessageDocument, { input: { messageId: rules, text: 'The new rules of the house' } })
    yield
    await bob.ask(UnpinMessageDocument, { input: { messageId: rules } })
    yield
    const last = await say(carol, team, 'The last rule')
    await bob.ask(PinMessageDocument, { input: { messageId: last } })
    yield
    await carol.ask(DeleteMessageDocument, { input: { messageId: last } })
  },

  async *receipts({ alice, aliceElsewhere, bob, direct }) {
    const first = await say(alice, direct, 'Are you there?')
    yield
    await bob.ask(MarkDeliveredDocument, { input: { upTo: [{ chatId: direct, messageId: first }] } })
    yield
    await bob.ask(MarkReadDocument, { input: { chatId: direct } })
    yield
    const answer = await say(bob, direct, 'I am.')
    yield
    const more = await say(bob, direct, 'What is it?')
    yield
    await alice.ask(MarkDeliveredDocument, { input: { upTo: [{ chatId: direct, messageId: more }] } })
    yield
    await aliceElsewhere.ask(MarkReadDocument, { input: { chatId: direct, upToMessageId: answer } })
    yield
    await alice.ask(MarkReadDocument, { input: { chatId: direct } })
    yield
    await aliceElsewhere.ask(MarkUnreadDocument, { input: { chatId: direct, fromMessageId: more } })
    yield
    await alice.ask(MarkReadDocument, { input: { chatId: direct } })
    yield
    await alice.ask(MarkUnreadDocument, { input: { chatId: direct } })
    yield
    await say(alice, direct, 'Nothing.')
    yield
    await bob.ask(MarkReadDocument, { input: { chatId: direct } })
  },

  async *readingInPrivate({ alice, bob, carol }) {
    const chatId = await makeChat(carol, [alice, bob], { title: 'Discretion' })
    await say(alice, chatId, 'Who reads this?')
    yield
    await bob.ask(MarkReadDocument, { input: { chatId } })
    yield
    await say(alice, chatId, 'And this?')
    yield
    await bob.ask(MarkReadDocument, { input: { chatId, private: true } })
    yield
    await alice.ask(MarkReadDocument, { input: { chatId, private: true } })
    yield
    const last = await say(alice, chatId, 'Not even this?')
    yield
    await bob.ask(MarkDeliveredDocument, { input: { upTo: [{ chatId, messageId: last }] } })
    yield
    await bob.ask(MarkReadDocument, { input: { chatId } })
  },

  async *ownSettings({ alice, aliceElsewhere, team }) {
    const set = (who: Actor, settings: object) =>
      who.ask(UpdateMyMembershipDocument, { input: { chatId: team, ...settings } })
    await set(aliceElsewhere, { pinned: true })
    yield
    await set(alice, { draft: 'I wanted to say' })
    yield
    await set(aliceElsewhere, { mutedUntil: inAnHour(), notificationLevel: 'MENTIONS' })
    yield
    await set(alice, { pinned: null, draft: null })
    yield
    await set(aliceElsewhere, { mutedUntil: null, notificationLevel: 'NONE' })
  },

  async *comingAndGoing({ alice, aliceElsewhere, bob, carol }) {
    const chatId = await makeChat(bob, [alice], { title: 'Coming and going', category: 'OPERATIONAL' })
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [carol.id] } })
    yield
    const said = await say(carol, chatId, 'Thank you!')
    yield
    await bob.ask(ChangeMemberRoleDocument, { input: { chatId, userId: alice.id, role: 'MODERATOR' } })
    yield
    await alice.ask(SilenceMemberDocument, { input: { chatId, userId: carol.id, until: inAnHour() } })
    yield
    await alice.ask(DeleteMessageDocument, { input: { messageId: said } })
    yield
    await bob.ask(ChangeMemberRoleDocument, { input: { chatId, userId: alice.id, role: 'MEMBER' } })
    yield
    await bob.ask(SilenceMemberDocument, { input: { chatId, userId: alice.id, until: inAnHour() } })
    yield
    await bob.ask(MarkReadDocument, { input: { chatId } })
    await bob.ask(SilenceMemberDocument, { input: { chatId, userId: alice.id } })
    yield
    await say(aliceElsewhere, chatId, 'Where is Carol?')
    await carol.ask(MarkReadDocument, { input: { chatId } })
    yield
    await bob.ask(RemoveMemberDocument, { input: { chatId, userId: carol.id } })
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [carol.id], role: 'ADMIN' } })
    yield
    await carol.ask(LeaveChatDocument, { input: { chatId } })
    yield
    await bob.ask(LeaveChatDocument, { input: { chatId } })
  },

  async *outAndInAgain({ alice, aliceElsewhere, bob, carol }) {
    const chatId = await makeChat(bob, [alice, carol], { title: 'Out and in again' })
    await say(bob, chatId, 'before')
    yield
    await bob.ask(RemoveMemberDocument, { input: { chatId, userId: alice.id } })
    yield
    await say(bob, chatId, 'Alice must not hear this')
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [alice.id] } })
    yield
    await say(bob, chatId, 'Welcome back')
    yield
    await aliceElsewhere.ask(LeaveChatDocument, { input: { chatId } })
    yield
    await bob.ask(AddMembersDocument, { input: { chatId, userIds: [alice.id] } })
    yield
    await say(carol, chatId, 'Once more')
    yield
    await alice.ask(LeaveChatDocument, { input: { chatId } })
  },

  async *channel({ alice, aliceElsewhere, bob, carol }) {
    const chatId = await makeChat(bob, [carol], { kind: 'CHANNEL', title: 'News' })
    yield
    await aliceElsewhere.ask(JoinChannelDocument, { input: { chatId } })
    yield
    await say(bob, chatId, 'First news')
    yield
    await alice.ask(LeaveChatDocument, { input: { chatId } })
    yield
    await say(bob, chatId, 'Second news')
    yield
    await alice.ask(JoinChannelDocument, { input: { chatId } })
    yield
    await carol.ask(LeaveChatDocument, { input: { chatId } })
  },

  async *details({ alice, aliceElsewhere, bob, carol }) {
    const chatId = await makeChat(bob, [alice, carol], { title: 'Details', description: 'as they were' })
    const update = (details: object) => bob.ask(UpdateChatDocument, { input: { chatId, ...details } })
    await say(alice, chatId, 'I like it as it is')
    yield
    await update({ title: 'New details', avatarUrl: 'https://example.com/picture.png', category: 'DEPARTMENT' })
    yield
    await update({ description: null, slowModeSeconds: 3_600 })
    yield
    await say(carol, chatId, 'Slowly now')
    yield
    await update({ policy: [{ action: 'PIN', role: 'MEMBER' }, { action: 'DELETE_OTHERS_MESSAGES', role: 'MEMBER' }] })
    yield
    await update({ slowModeSeconds: 0 })
    yield
    await bob.ask(ArchiveChatDocument, { input: { chatId, archived: true } })
    yield
    await aliceElsewhere.ask(MarkReadDocument, { input: { chatId } })
    yield
    await bob.ask(ArchiveChatDocument, { input: { chatId, archived: false } })
    yield
    await update({ policy: null })
    yield
    await say(alice, chatId, 'Back again')
    await bob.ask(ArchiveChatDocument, { input: { chatId, archived: true } })
  },

  async *doomed({ alice, bob }) {
    const chatId = await makeChat(bob, [alice], { title: 'Doomed' })
    yield
    await say(alice, chatId, 'It will not last')
    yield
    await bob.ask(DeleteChatDocument, { input: { chatId } })
  },

  async *resources({ alice, bob, carol }) {
    const ensure = (type: string, members: Actor[]) =>
      bob.ask(EnsureResourceChatDocument, {
        input: { resource: { type, id: '4711' }, title: `${type} 4711`, memberIds: members.map(({ id }) => id) },
      })
    await ensure('shipment', [bob, alice])
    yield
    // Another object of the host's with the same id.
    const { ensureResourceChat } = await ensure('invoice', [bob, carol])
    yield
    await ensure('invoice', [bob, alice])
    yield
    await say(bob, ensureResourceChat!.chat.id, 'Who pays?')
    yield
    await ensure('shipment', [bob, carol])
  },

  async *newFaces({ alice, bob, carol }) {
    const chatId = await openDirectChat(carol, alice)
    yield
    await say(carol, chatId, 'We have not met')
    yield
    await openDirectChat(bob, carol)
  },

  async *forwarding({ alice, bob, carol, team, direct }) {
    const news = await say(bob, team, 'Read this')
    yield
    await bob.ask(ForwardMessageDocument, { input: { messageId: news, toChatId: direct } })
    yield
    const own = await say(alice, direct, 'Tell the others')
    yield
    await alice.ask(ForwardMessageDocument, { input: { messageId: own, toChatId: team, nonce: randomUUID() } })
    yield
    const { messageId, options } = await askPoll(carol, team, { question: 'Again?', options: ['Yes', 'No'] })
    await carol.ask(VotePollDocument, { input: { messageId, optionIds: [options[0]!] } })
    yield
    await alice.ask(ForwardMessageDocument, { input: { messageId, toChatId: direct } })
  },

  async *moderation({ alice, bob, mona, team }) {
    await mona.ask(BlockWordsDocument, { input: { words: ['darn'], action: 'MASK' } })
    yield
    const messageId = await say(bob, team, 'Oh, darn it')
    yield
    const { reportMessage } = await alice.ask(ReportMessageDocument, { input: { messageId, reason: 'rude' } })
    yield
    await mona.ask(ResolveReportDocument, {
      input: { reportId: reportMessage!.reportId, resolution: 'ACTION_TAKEN' },
    })
    yield
    await mona.ask(UnblockWordsDocument, { input: { words: ['darn'] } })
  },

  async *calls({ alice, aliceElsewhere, bob, carol }) {
    const chatId = await makeChat(bob, [alice, carol], { title: 'Calls' })
    const media = { audio: true, video: false, screen: false }
    const start = async (who: Actor) =>
      (await who.ask(StartCallDocument, { input: { chatId, kind: 'AUDIO', deviceId: 'phone', media } })).startCall!
    const join = async (who: Actor, callId: string) =>
      (await who.ask(JoinCallDocument, { input: { callId, deviceId: 'phone' } })).joinCall!.participant.id
    const { call, participant } = await start(bob)
    const callId = call.id
    yield
    await aliceElsewhere.ask(DeclineCallDocument, { input: { callId } })
    yield
    const carols = await join(carol, callId)
    const candidates = [{ candidate: '', sdpMid: '0' }]
    await carol.ask(SendSignalDocument, {
      input: { callId, fromParticipantId: carols, toParticipantId: participant.id, kind: 'ICE_CANDIDATES', payload: candidates },
    })
    yield
    const alices = await join(alice, callId)
    await alice.ask(UpdateCallMediaDocument, { input: { callId, participantId: alices, media } })
    yield
    await alice.ask(ReportCallQualityDocument, {
      input: { callId, participantId: alices, roundTripMs: 20, packetLossPercent: 0.5, bitrateKbps: 300 },
    })
    await alice.ask(LeaveCallDocument, { input: { callId, participantId: alices } })
    yield
    await bob.ask(EndCallDocument, { input: { callId } })
    yield
    await start(alice)
  },
}
