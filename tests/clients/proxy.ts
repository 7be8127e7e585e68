// A TCP proxy in front of the server, whose connections can be cut, silenced and slowed down.

import { connect, createServer, type Socket } from 'node:net'

export class Proxy {
  readonly #server = createServer((client) => this.#accept(client))
  readonly #sockets = new Set<Socket>()
  #isSilent = false
  #refuses = false
  /** The number of connections so far. */
  connections = 0
  /** The delay of everything that the server sends, in milliseconds. */
  delay = 0
  /** The number of times that something was delayed. */
  delayed = 0

  private constructor(private readonly target: URL) {}

  static async open(target: string) {
    const proxy = new Proxy(new URL(target))
    await new Promise<void>((listening) => proxy.#server.listen(0, '127.0.0.1', listening))
    return proxy
  }

  /** Returns the target's URL with the address of the proxy. */
  get url() {
    const url = new URL(this.target)
    url.port = String((this.#server.address() as { port: number }).port)
    return url.href
  }

  /** Closes all connections, and refuses new ones until `restore`. */
  cut() {
    this.#refuses = true
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Keeps the present connections open and passes nothing on, like a network that fails silently. */
  silence() {
    this.#isSilent = true
  }

  /** Serves new connections again. What was silent stays silent. */
  restore() {
    this.#refuses = false
    this.#isSilent = false
  }

  close() {
    this.cut()
    this.#server.close()
  }

  #accept(client: Socket) {
    this.connections += 1
    if (this.#refuses) return void client.destroy()
    const server = connect(Number(this.target.port), this.target.hostname)
    let isDead = false
    const passes = () => !(isDead ||= this.#isSilent)
    client.on('data', (data) => passes() && server.write(data))
    server.on('data', (data) => {
      const pass = () => passes() && client.write(data)
      if (this.delay === 0) return void pass()
      this.delayed += 1
      setTimeout(pass, this.delay)
    })
    for (const [socket, peer] of [[client, server], [server, client]] as const) {
      this.#sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        this.#sockets.delete(socket)
        if (!isDead) peer.destroy()
      })
    }
  }
}
