// The connection to one other participant, by the "perfect negotiation" of the W3C: either side may change what it
// sends at any time, and where two offers collide the polite side gives way.
// https://www.w3.org/TR/webrtc/#perfect-negotiation-example

export class Peer {
  /** What arrives: first voice and camera, then a shared screen. */
  streams = new Set()
  #senders = {}
  #makingOffer = false
  #ignoringOffer = false
  #outbox = []
  #sending = false

  /** `signal(kind, payload)` sends to the other side; `configure()` gives an RTCConfiguration that is fresh. */
  constructor({ negotiation, configuration, configure, signal, changed }) {
    Object.assign(this, { negotiation, configure, signal })
    const pc = (this.pc = new RTCPeerConnection(configuration))
    pc.onnegotiationneeded = () => this.#offer().catch(console.error)
    pc.onicecandidate = ({ candidate }) => candidate && this.#send('ICE_CANDIDATES', [candidate])
    pc.ontrack = ({ streams: [stream] }) => {
      this.streams.add(stream)
      stream.onremovetrack = () => {
        if (stream.getTracks().length === 0) this.streams.delete(stream)
        changed()
      }
      changed()
    }
    pc.onconnectionstatechange = () => {
      // One side alone tries again, so that the two do not collide.
      if (pc.connectionState === 'failed') negotiation.offers ? this.#restart() : this.#send('RENEGOTIATE', {})
      changed()
    }
  }

  /** Sends a track, or null to pause: negotiated the first time only. */
  async setTrack(name, track, stream) {
    if (this.#senders[name]) await this.#senders[name].replaceTrack(track)
    else if (track) this.#senders[name] = this.pc.addTrack(track, stream)
  }

  /** Takes a track away, so that it ends at the other side too: negotiated. */
  removeTrack(name) {
    if (this.#senders[name]) this.pc.removeTrack(this.#senders[name])
    delete this.#senders[name]
  }

  async receive({ kind, payload }) {
    const { pc } = this
    if (kind === 'RENEGOTIATE') return this.#restart()
    if (kind === 'ICE_CANDIDATES') {
      // Those of an offer that was ignored fit nothing.
      const failed = (error) => this.#ignoringOffer || console.warn(error)
      return Promise.all(payload.map((candidate) => pc.addIceCandidate(candidate).catch(failed)))
    }
    const collides = kind === 'OFFER' && (this.#makingOffer || pc.signalingState !== 'stable')
    this.#ignoringOffer = collides && !this.negotiation.polite
    if (this.#ignoringOffer) return
    await pc.setRemoteDescription(payload) // where they collide, this takes the own offer back
    if (kind === 'OFFER') await this.#describe()
  }

  close() {
    this.#outbox = []
    this.pc.close()
  }

  async #offer() {
    // Who came later makes the first offer; what the other one sends is told in the answer.
    if (!this.negotiation.offers && !this.pc.remoteDescription) return
    this.#makingOffer = true
    await this.#describe().finally(() => (this.#makingOffer = false))
  }

  /** Makes and sends what is due, an offer or an answer. */
  async #describe() {
    await this.pc.setLocalDescription()
    const { type, sdp } = this.pc.localDescription
    this.#send(type.toUpperCase(), { type, sdp })
  }

  async #restart() {
    this.pc.setConfiguration(await this.configure())
    this.pc.restartIce()
  }

  /** Signals keep their order: each waits until the one before is there. Meanwhile candidates gather. */
  async #send(kind, payload) {
    const last = this.#outbox.at(-1)
    if (kind === 'ICE_CANDIDATES' && last?.kind === kind && last.payload.length < 50) last.payload.push(...payload)
    else this.#outbox.push({ kind, payload })
    if (this.#sending) return
    this.#sending = true
    for (let next; (next = this.#outbox.shift()); ) await this.signal(next.kind, next.payload).catch(console.warn)
    this.#sending = false
  }
}
