// The user interface. Each change redraws it from the state; only video elements are kept, so that they keep playing.

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
const calls = new Map() // ringing, active and past calls, by id
const messages = new Map() // system messages about calls, by id
let api, me, chatId, deviceId
let call = null // the call that this page has joined

// ---------------------------------------------------------------- start

const query = new URLSearchParams(location.search)
const secret = new URLSearchParams(location.hash.slice(1)) // the fragment is not sent to the page's server
if (secret.has('token')) attempt(open)

async function open() {
  api = connect(query.get('server') ?? 'http://127.0.0.1:8080', secret.get('token'))
  me = (await api.ask('{ viewer { user { id name } } }')).user
  deviceId = await findDeviceId()
  chatId = secret.get('chat') ?? (await api.ask(OPEN, { userId: secret.get('user') })).chat.id
  api.subscribe(INBOX, {}, handleInboxEvent)
  api.subscribe(MESSAGES, { chatId }, ({ message }) => {
    if (message?.system?.call) messages.set(message.id, message.system)
    draw()
  })
  document.querySelector('main').hidden = false
  showStatus(`You are ${me.name}.`)
}

/** The device is the browser tab, which keeps its id when it is reloaded. A duplicated tab takes an id of its own. */
async function findDeviceId() {
  const create = () => (sessionStorage.deviceId = crypto.randomUUID())
  return lock(sessionStorage.deviceId ?? create()).catch(() => lock(create()))
}

/** Waits for the lock of an id, which one tab at a time holds; a tab that is reloaded gives it back. */
const lock = (id) =>
  new Promise((resolve, reject) => {
    const hold = () => new Promise(() => resolve(id))
    navigator.locks.request(`device ${id}`, { signal: AbortSignal.timeout(1_000) }, hold).catch(reject)
  })

async function handleInboxEvent({ __typename, call: changed, notification }) {
  if (changed) calls.set(changed.id, changed)
  // Past calls are queried after the feed has started, so that no call is missed between them.
  if (__typename === 'FeedCaughtUp' || __typename === 'FeedReset') {
    for (const known of (await api.ask(CALLS)).nodes) calls.set(known.id, known)
  }
  const { kind, readAt, actor } = notification ?? {}
  if (kind === 'MISSED_CALL' && !readAt) showStatus(`You missed a call from ${actor.name}.`)
  draw()
}

// ---------------------------------------------------------------- actions

const newCall = () =>
  (call = new Call({ api, deviceId, relay: query.has('relay'), changed: draw, warn: showStatus }))

const actions = {
  'audio-call': () => newCall().start(chatId, 'AUDIO'),
  'video-call': () => newCall().start(chatId, 'VIDEO'),
  join: () => newCall().join(active()),
  move: () => newCall().join(active(), true),
  audio: () => call.setAudio(!call.media.audio),
  video: () => call.setVideo(!call.media.video),
  screen: () => call.setScreen(!call.media.screen),
  'hang-up': () => call.hangUp(),
}
for (const [id, action] of Object.entries(actions)) $(id).onclick = () => attempt(action)

async function attempt(action) {
  await Promise.resolve().then(action).catch(({ message, code }) => showStatus(code ? `${message} (${code})` : message))
  draw()
}

const active = () => [...calls.values()].find(({ chat, status }) => chat.id === chatId && status !== 'ENDED')
const rings = ({ status, participants }) =>
  status !== 'ENDED' && participants.some(({ user, status }) => user.id === me.id && status === 'RINGING')

/** True if the user has joined a call in another tab or on another device. */
const isElsewhere = ({ participants }) =>
  participants.some(({ user, status, deviceId: id }) => user.id === me.id && status === 'JOINED' && id !== deviceId)

// ---------------------------------------------------------------- drawing

function draw() {
  if (!me) return
  const inCall = Boolean(call?.call && !call.over)
  $('start').hidden = call !== null && !call.over // also while the browser asks for permission to use the camera
  $('call').hidden = !inCall
  $('elsewhere').hidden = !active() || !isElsewhere(active())
  $('join').hidden = !active() || rings(active()) || isElsewhere(active())
  for (const name of ['audio', 'video', 'screen']) $(name).ariaPressed = inCall && call.media[name]
  const newest = [...calls.values()].sort((a, b) => b.startedAt.localeCompare(a.startedAt))
  list('participants', inCall ? [...call.participants.values()].map(participantLine) : [])
  list('history', newest.map(callLine))
  list('messages', [...messages.values()].map(messageLine))
  drawRinging(newest.filter(rings))
  drawVideos(inCall ? streams() : new Map())
}

const showStatus = (text) => ($('status').textContent = text)
const create = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}
const list = (id, lines) => $(id).replaceChildren(...lines.map((line) => create('li', {}, line)))
const formatDuration = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`

function participantLine({ id, user, status, media }) {
  const state = call.peers.get(id)?.pc.connectionState ?? status.toLowerCase()
  const on = (enabled) => (enabled ? 'on' : 'off')
  return `${user.name}: ${state}, microphone ${on(media.audio)}, camera ${on(media.video)}, screen ${on(media.screen)}`
}

function callLine({ viewerDirection, kind, startedBy, status, endReason, durationSeconds }) {
  const result = endReason === 'COMPLETED' ? formatDuration(durationSeconds) : (endReason ?? status).toLowerCase()
  return `${viewerDirection} ${kind} call from `.toLowerCase() + `${startedBy.name}: ${result}`
}

function messageLine({ kind, actor, call: { durationSeconds } }) {
  if (kind === 'CALL_STARTED') return `${actor.name} started a call`
  if (kind === 'CALL_MISSED') return `Missed call from ${actor.name}`
  return durationSeconds === null ? 'The call ended' : `The call ended after ${formatDuration(durationSeconds)}`
}

function drawRinging(ringing) {
  const shown = ringing.map(({ id }) => id).join()
  if ($('ringing').dataset.shown === shown) return // an unchanged alert is not announced again, and its buttons keep the focus
  $('ringing').dataset.shown = shown
  $('ringing').hidden = ringing.length === 0
  const button = (name, action) => create('button', { onclick: () => attempt(action) }, name)
  $('ringing').replaceChildren(...ringing.map((incoming) => create('p', {},
    `${incoming.startedBy.name} is calling (${incoming.kind.toLowerCase()}) `,
    button('Answer', () => newCall().join(incoming)),
    button('Decline', () => api.ask(DECLINE, { callId: incoming.id })),
  )))
}

/** Returns the streams to show with their labels: the user's own, then those of the other participants. */
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
    const muted = srcObject === call.stream // users should not hear themselves
    const video = create('video', { srcObject, ariaLabel, autoplay: true, playsInline: true, muted })
    $('videos').append(create('figure', {}, video, create('figcaption', {}, ariaLabel)))
  }
}
