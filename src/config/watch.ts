/**
 * Tells when files have changed, whichever way they change: written in place, replaced by rename as editors do, or switched
 * behind a symbolic link. What counts is what `stat` says once things are quiet, not which event came.
 */
import { readdirSync, statSync, watch, type FSWatcher } from 'node:fs'
import { dirname, join } from 'node:path'

export interface WatchOptions {
  /** Quiet time before a change is reported, ms. */
  readonly debounceMs?: number
  /** Between two looks without any event: network file systems send none, ms. */
  readonly pollMs?: number
  /** Path -> state from which changes count, when that is not the present one. */
  readonly seen?: ReadonlyMap<string, string>
}

/**
 * Watches files and folders (their direct entries). The callback gets the paths, as given, whose content may have changed.
 * A path that does not exist yet is reported when it appears, one that goes away when it goes.
 * @returns ends the watch
 */
export function watchFiles(paths: readonly string[], changed: (paths: readonly string[]) => void, options: WatchOptions = {}): () => void {
  const debounceMs = options.debounceMs ?? 200
  const seen = new Map(paths.map((path) => [path, options.seen?.get(path) ?? signatureOf(path)]))
  let quiet: NodeJS.Timeout | undefined
  let closed = false

  const look = (): void => {
    const changes = paths.filter((path) => {
      const signature = signatureOf(path)
      if (signature === seen.get(path)) return false
      seen.set(path, signature)
      return true
    })
    if (changes.length > 0 && !closed) changed(changes)
  }
  const soon = (): void => {
    clearTimeout(quiet)
    if (!closed) quiet = setTimeout(look, debounceMs).unref()
  }
  const watchers = watchedFolders(paths).map((folder) => watchFolder(folder, soon)).filter((watcher) => watcher !== undefined)
  if (options.seen !== undefined) soon()
  const poll = setInterval(look, options.pollMs ?? 5_000).unref()

  return () => {
    closed = true
    clearTimeout(quiet)
    clearInterval(poll)
    for (const watcher of watchers) watcher.close()
  }
}

/** A watch over files that turn out to be others after each change. */
export interface NamedWatch {
  /** @param files  path -> state before it was read */
  use(files: ReadonlyMap<string, string>): void
  close(): void
}

/** Watches nothing until it is told what. */
export function watchNamed(changed: (paths: readonly string[]) => void, options: Omit<WatchOptions, 'seen'> = {}): NamedWatch {
  let watched = ''
  let stop = (): void => {}
  let closed = false
  return {
    use: (files) => {
      const names = [...files.keys()].sort().join('\u0000')
      if (closed || names === watched) return
      watched = names
      stop()
      stop = files.size === 0 ? () => {} : watchFiles([...files.keys()], changed, { ...options, seen: files })
    },
    close: () => {
      closed = true
      stop()
    },
  }
}

/** The folder around each path sees replacement by rename; a watched folder is looked into as well. */
function watchedFolders(paths: readonly string[]): string[] {
  return [...new Set(paths.flatMap((path) => (isFolder(path) ? [path, dirname(path)] : [dirname(path)])))]
}

function watchFolder(folder: string, soon: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(folder, { persistent: false }, soon)
    // A folder that goes away ends its watch; the regular look goes on.
    watcher.on('error', () => watcher.close())
    return watcher
  } catch {
    return undefined
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}

/** Changes whenever the content may have: identity, size and time of a file, and those of a folder's entries. */
export function signatureOf(path: string): string {
  try {
    const stat = statSync(path, { bigint: true })
    const own = `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}`
    if (!stat.isDirectory()) return own
    return [own, ...readdirSync(path).sort().map((name) => `${name}=${entrySignature(join(path, name))}`)].join('|')
  } catch {
    return 'absent'
  }
}

function entrySignature(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? 'absent' : `${stat.ino}:${stat.size}:${stat.mtimeNs}`
}
