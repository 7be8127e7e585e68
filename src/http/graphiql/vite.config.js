import { defineConfig } from 'vite'

export default defineConfig({
  base: '/graphiql/',
  build: {
    // The editor, Monaco, is one large chunk. Splitting it would not help on loopback.
    chunkSizeWarningLimit: 8_000,
    rolldownOptions: {
      onwarn(warning, warn) {
        // React's compiler leaves directives such as "use no memo" in GraphiQL's files.
        if (warning.code !== 'MODULE_LEVEL_DIRECTIVE') warn(warning)
      },
    },
  },
})
