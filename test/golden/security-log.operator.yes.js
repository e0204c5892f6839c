// security-log <- operator, with the operator's yes. Made by the emitter; see test/golden.test.ts.
return function minimise(s, w, start, end, t, at, cx) {
  if (at + (end - start) + 4160 > t.length) return -9
  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0
  let r1 = -1, e1 = 0, a6 = 0, b6 = 0, r2 = -1, e2 = 0
  if (s[p] === 10) {
    if (r1 < 0) r1 = p
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    if (n === 0) return -1
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
    e1 = p
  }
  if (s[p] === 16) {
    if (r1 < 0) r1 = p
    p += 1
    n = s[p++]
    if (n > 127) {
      m = p + 8
      do { n = s[p++] } while (n > 127 && p < m)
      if (!(n > 0 && n < 128)) return -1
    } else if (n === 0) return -1
    e1 = p
  }
  if (s[p] === 24) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (s[p] === 32) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (s[p] === 40) {
    p += 1
    n = s[p++]
    if (n > 1) return -1
  }
  if (s[p] === 50) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    a6 = q; b6 = p
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
  }
  if (s[p] === 56) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = p + 8
      do { n = s[p++] } while (n > 127 && p < m)
      if (!(n > 0 && n < 128)) return -1
    }
  }
  if (s[p] === 64) {
    if (r2 < 0) r2 = p
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 7) return -1 } } }
      if (n === 0) return -1
    } else if (n === 0) return -1
    e2 = p
  }
  if (s[p] === 72) {
    if (r2 < 0) r2 = p
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 7) return -1 } } }
      if (n === 0) return -1
    } else if (n === 0) return -1
    e2 = p
  }
  if (s[p] === 80) {
    if (r2 < 0) r2 = p
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 7) return -1 } } }
      if (n === 0) return -1
    } else if (n === 0) return -1
    e2 = p
  }
  if (s[p] === 88) {
    if (r2 < 0) r2 = p
    p += 1
    n = s[p++]
    if (n !== 1) return -1
    e2 = p
  }
  if (s[p] === 98) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
  }
  if (s[p] === 106) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
  }
  if (s[p] === 114) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
  }
  if (s[p] === 120) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 386) {
    p += 2
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
  }
  if (p !== end) {
    p = skipUnknown(s, p, end, 16)
    if (p !== end) return -1
  }
  if (r1 >= 0) {
    n = e1 - r1
    if (n > 24 && s === t) { t.copyWithin(o, r1, e1); o += n } else for (q = r1; q < e1;) t[o++] = s[q++]
  }
  n = C6(s, a6, b6, t, o, cx)
  if (n < 0) {
    cx.failures++
  } else if (n > o) { o = n; c = 1 }
  if (r2 >= 0) {
    c = 1
    n = e2 - r2
    if (n > 24 && s === t) { t.copyWithin(o, r2, e2); o += n } else for (q = r2; q < e2;) t[o++] = s[q++]
  }
  if (c === 0) return -40
  if (o > t.length) return -9
  if (!topicOf(t, at, o, cx)) return -8
  return o
}
