/**
 * Which engine minimises in tests. Both give the same bytes, so every test must hold with either:
 *
 *   npx vitest run                                     generated functions, as shipped
 *   PARAPET_MINIMISER=interpreted npx vitest run       the readable interpreter alone, as with `minimiser: interpreted` in the gateway file
 *
 * Whoever compiles a plan in a test, or starts a gateway, asks here. Tests of the generated text itself name their engine.
 */
export const ENGINE: 'generated' | 'interpreted' = process.env.PARAPET_MINIMISER === 'interpreted' ? 'interpreted' : 'generated'

/** Both, for tests that hold one against the other. */
export const ENGINES = [ENGINE, 'interpreted'] as const

/** Settings of the gateway file that go with it, as `--set` takes them. */
export const ENGINE_SETTINGS: readonly string[] = ENGINE === 'interpreted' ? ['minimiser=interpreted'] : []
