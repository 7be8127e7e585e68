import { chromium } from 'playwright-core'

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const args = [
  '--headless=new',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/**
 * Starts a Chromium without requests of its own. It ends with this process; Playwright's handler of SIGTERM would keep
 * the process alive when the test runner ends it after a timeout.
 */
export const launch = (...more: string[]) =>
  chromium.launch({ executablePath, args: [...args, ...more], handleSIGTERM: false })
