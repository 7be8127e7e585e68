// What is shown, drawn anew at each change from what is known; only videos stay, to go on playing.

import { connect } from './api.js'
import { CALL, Call } from './call.js'

const INBOX = `subscription ($after: String) {
  inboxFeed(after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on CallUpserted { call { ...CallParts } }
    ... on NotificationUpserted { notification { kind readAt actor { name } } }
  }
} ${CALL}`
const CALLS = `{ calls(first: 20) { nodes { ...CallParts } } } ${CALL}`
const OPEN = 'mutation ($userId: ID!) { openDirectChat(input: { userId: $userId }) { chat { id } } }'
const DECLINE = 'mutation ($callId: ID!) { declineCall(input: { callId: $callId }) { call { id } } }'
const MESSAGES = `subscription ($chatId: ID!, $after: String) {
  chatFeed(chatId: $chatId, last: 50, after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on MessageUpserted { message { id system { kind actor { name } call { id durationSeconds } } } }
  }
}`

const $ = (id) => document.getElementById(id)
const calls = new Map() // by id: those that ring, that go on, and that were
const messages = new Map() // those about calls
let api, me, chatId
let call = null // the one that this page is in

// ---------------------------------------------------------------- beginning

const query = new URLSearchParams(location.search)
const secret = new URLSearchParams(location.hash.slice(1)) // never sent to the server of the page
if (secret.has('token')) attempt(open)

async function open() {
  api = connect(query.get('server') ?? 'http://127.0.0.1:8080', secret.get('token'))
  me = (await api.ask('{ viewer { user { id name } } }')).user
  chatId = secret.get('chat') ?? (await api.ask(OPEN, { userId: secret.get('person') })).chat.id
  api.follow(INBOX, {}, inbox)
  api.follow(MESSAGES, { chatId }, ({ message }) => {
    if (message?.system?.call) messages.set(message.id, message.system)
    draw()
  })
  document.querySelector('main').hidden = false
  say(`You are ${me.name}.`)
}

async function inbox({ __typename, call: changed, notification }) {
  if (changed) calls.set(changed.id, changed)
  // What was before is asked for once the feed has begun, so that nothing falls between.
  if (__typename === 'FeedCaughtUp' || __typename === 'FeedReset') {
    for (const known of (await api.ask(CALLS)).nodes) calls.set(known.id, known)
  }
  const { kind, readAt, actor } = notification ?? {}
  if (kind === 'MISSED_CALL' && !readAt) say(`You missed a call of ${actor.name}.`)
  draw()
}

// ---------------------------------------------------------------- acting

/** A tab is a device, and the same one when it is loaded again. */
function newCall() {
  const deviceId = (sessionStorage.deviceId ??= crypto.randomUUID())
  return (call = new Call({ api, deviceId, relay: query.has('relay'), changed: draw }))
}

const actions = {
  'audio-call': () => newCall().start(chatId, 'AUDIO'),
  'video-call': () => newCall().start(chatId, 'VIDEO'),
  join: () => newCall().join(active()),
  audio: () => call.setAudio(!call.media.audio),
  video: () => call.setVideo(!call.media.video),
  screen: () => call.setScreen(!call.media.screen),
  'hang-up': () => call.hangUp(),
}
for (const [id, action] of Object.entries(actions)) $(id).onclick = () => attempt(action)

async function attempt(action) {
  await Promise.resolve().then(action).catch(({ message, code }) => say(code ? `${message} (${code})` : message))
  draw()
}

const active = () => [...calls.values()].find(({ chat, status }) => chat.id === chatId && status !== 'ENDED')
const rings = ({ status, participants }) =>
  status !== 'ENDED' && participants.some((one) => one.user.id === me.id && one.status === 'RINGING')

// ---------------------------------------------------------------- drawing

function draw() {
  if (!me) return
  const inCall = Boolean(call?.call && !call.over)
  $('start').hidden = call !== null && !call.over // also while the browser asks whether the page may have the camera
  $('call').hidden = !inCall
  $('join').hidden = !active() || rings(active())
  for (const name of ['audio', 'video', 'screen']) $(name).ariaPressed = inCall && call.media[name]
  const newest = [...calls.values()].sort((a, b) => b.startedAt.localeCompare(a.startedAt))
  list('participants', inCall ? [...call.participants.values()].map(participantLine) : [])
  list('history', newest.map(callLine))
  list('messages', [...messages.values()].map(messageLine))
  drawRinging(newest.filter(rings))
  drawVideos(inCall ? streams() : new Map())
}

const say = (text) => ($('status').textContent = text)
const create = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}
const list = (id, lines) => $(id).replaceChildren(...lines.map((line) => create('li', {}, line)))
const lasting = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`

function participantLine({ id, user, status, media }) {
  const state = call.peers.get(id)?.pc.connectionState ?? status.toLowerCase()
  const on = (it) => (it ? 'on' : 'off')
  return `${user.name}: ${state}, microphone ${on(media.audio)}, camera ${on(media.video)}, screen ${on(media.screen)}`
}

function callLine({ viewerDirection, kind, startedBy, status, endReason, durationSeconds }) {
  const how = endReason === 'COMPLETED' ? lasting(durationSeconds) : (endReason ?? status).toLowerCase()
  return `${viewerDirection} ${kind} call of `.toLowerCase() + `${startedBy.name}: ${how}`
}

function messageLine({ kind, actor, call: { durationSeconds } }) {
  if (kind === 'CALL_STARTED') return `${actor.name} started a call`
  if (kind === 'CALL_MISSED') return `${actor.name} called, and nobody answered`
  return durationSeconds === null ? 'The call ended' : `The call ended after ${lasting(durationSeconds)}`
}

function drawRinging(ringing) {
  const shown = ringing.map(({ id }) => id).join()
  if ($('ringing').dataset.shown === shown) return // so that it is read out once, and its buttons keep the focus
  $('ringing').dataset.shown = shown
  $('ringing').hidden = ringing.length === 0
  const button = (name, action) => create('button', { onclick: () => attempt(action) }, name)
  $('ringing').replaceChildren(...ringing.map((known) => create('p', {},
    `${known.startedBy.name} calls (${known.kind.toLowerCase()}) `,
    button('Answer', () => newCall().join(known)),
    button('Decline', () => api.ask(DECLINE, { callId: known.id })),
  )))
}

/** What is to be seen, each with its name: the own camera and screen, then what the others send. */
function streams() {
  const named = new Map([[call.stream, 'You'], [call.screen, 'Your screen']])
  for (const [id, peer] of call.peers) {
    const { name } = call.participants.get(id).user
    ;[...peer.streams].forEach((stream, n) => named.set(stream, n === 0 ? name : `${name}'s screen`))
  }
  named.delete(null)
  return named
}

function drawVideos(named) {
  for (const figure of [...$('videos').children]) named.delete(figure.firstChild.srcObject) || figure.remove()
  for (const [srcObject, ariaLabel] of named) {
    const muted = srcObject === call.stream // nobody wants to hear themselves
    const video = create('video', { srcObject, ariaLabel, autoplay: true, playsInline: true, muted })
    $('videos').append(create('figure', {}, video, create('figcaption', {}, ariaLabel)))
  }
}
