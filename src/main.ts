#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { join } from 'node:path'

// Most of a start is spent on taking the types out of the sources; the next start finds that done. Beside the packages, which belong to
// whoever installed them: a folder that others can write to would let them choose what runs here. Where it cannot be written, none is used.
enableCompileCache(join(import.meta.dirname, '../node_modules/.cache/parapet'))
const { runCommand } = await import('./cli/command.ts')

// A reader that has seen enough (`parapet … | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

const { stdin, stdout, stderr, env } = process
process.exitCode = await runCommand(process.argv.slice(2), { stdin, stdout, stderr, env, cwd: process.cwd() })
