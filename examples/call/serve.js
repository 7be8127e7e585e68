// Serves this folder on localhost: browsers allow camera and microphone only on pages from https or localhost.

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname } from 'node:path'

const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8' }

export const server = createServer(async ({ url }, response) => {
  const { pathname } = new URL(url.replace(/^\/(?=$|\?)/, '/index.html'), 'http://localhost') // removes every `..`
  const body = await readFile(new URL(`.${pathname}`, import.meta.url)).catch(() => null)
  response.writeHead(body ? 200 : 404, { 'content-type': types[extname(pathname)] ?? 'text/plain' }).end(body)
})
server.listen(process.env.PORT ?? 3000, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`))
