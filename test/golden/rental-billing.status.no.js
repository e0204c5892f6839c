// rental-billing <- status, without the operator's yes. Made by the emitter; see test/golden.test.ts.
return function minimise(s, w, start, end, t, at, cx) {
  if (at + (end - start) + 4208 > t.length) return -9
  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0
  let r1 = -1, e1 = 0, v2 = 0, v27 = 0
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
    p += 1
    n = s[p++]
    if (n > 127) {
      n &= 127; q = s[p++]; n |= (q & 127) << 7
      if (q > 127) { q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; m = q & 127
      if (q > 127) { q = s[p++]; m |= (q & 127) << 7
      if (q > 127) { q = s[p++]; m |= (q & 127) << 14
      if (q > 127) { q = s[p++]; m |= (q & 127) << 21 } } }
      n += m * 268435456; if (n > 9007199254740991) return -1 }
      } }
      if (!(q > 0 && q < 128)) return -1
    }
    v2 = n
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
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (s[p] === 72) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (s[p] === 80) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (s[p] === 88) {
    p += 1
    n = s[p++]
    if (n > 1) return -1
  }
  if (s[p] === 96) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 7) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (s[p] === 104) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (s[p] === 112) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
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
  if (w.getUint16(p, true) === 384) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 392) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 400) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 408) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 416) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 424) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 432) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 440) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 448) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 456) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 464) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    }
  }
  if (w.getUint16(p, true) === 472) {
    p += 2
    n = s[p++]
    if (n > 127) {
      n &= 127; q = s[p++]; n |= (q & 127) << 7
      if (q > 127) { q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n += q * 268435456 }
      } }
      if (!(q > 0 && q < 128)) return -1
    }
    v27 = n
  }
  if (w.getUint16(p, true) === 482) {
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
  if (w.getUint16(p, true) === 490) {
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
    p = skipUnknown(s, p, end, 29)
    if (p !== end) return -1
  }
  if (r1 >= 0) {
    n = e1 - r1
    if (n > 24 && s === t) { t.copyWithin(o, r1, e1); o += n } else for (q = r1; q < e1;) t[o++] = s[q++]
  }
  n = Math.floor(v2 / 3600000) * 3600000; if (n > v2) n -= 3600000
  if (n > 9007199254740991 || n < 0) return -1
  else if (n !== 0) {
    t[o++] = 16
    m = Math.floor(n / 268435456); o = writeHalves(t, o, (n - m * 268435456) | 0, m)
  }
  n = roundUnsigned(v27, 360)
  if (n > 4294967295 || n < 0) { cx.failures++ }
  else if (n !== 0) {
    c = 1
    t[o++] = 216; t[o++] = 1
    while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
  }
  if (c === 0) return -40
  if (o > t.length) return -9
  if (!topicOf(t, at, o, cx)) return -8
  return o
}
