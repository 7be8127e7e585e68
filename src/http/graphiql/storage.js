// Every GraphiQL keeps its tabs under the same names, and every development server is on the same
// few origins: a prefix of our own keeps another application's tabs out of this page.
const PREFIX = 'parlor/'

const ownKeys = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))

export const storage = {
  getItem: (key) => localStorage.getItem(PREFIX + key),
  setItem: (key, value) => localStorage.setItem(PREFIX + key, value),
  removeItem: (key) => localStorage.removeItem(PREFIX + key),
  clear: () => ownKeys().forEach((key) => localStorage.removeItem(key)),
  get length() {
    return ownKeys().length
  },
}
