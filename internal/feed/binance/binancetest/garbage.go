package binancetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// garbage makes something that must be refused or dropped out of a good message.
func (m *market) garbage(kind, message string, rng *rand.Rand) string {
	swap := func(old, replacement string) string {
		start := strings.Index(message, old)
		if start < 0 {
			return "null"
		}
		start += len(old)
		end := start + strings.IndexAny(message[start:], ",}")
		return message[:start] + replacement + message[end:]
	}
	price := map[string]string{streamKline: `"c":`, streamMark: `"p":`, streamBook: `"b":`}[kind]
	tomorrow := m.s.exchange().Add(24 * time.Hour).UnixMilli()
	switch rng.IntN(12) {
	case 0:
		return message[:rng.IntN(len(message))]
	case 1:
		return swap(price, `"NaN"`)
	case 2:
		return swap(price, `"-1"`)
	case 3:
		return swap(price, `"0"`)
	case 4:
		return swap(price, `"0x1p4"`)
	case 5:
		return swap(price, `7`)
	case 6:
		return swap(`"E":`, `0`)
	case 7:
		return swap(`"E":`, fmt.Sprint(tomorrow))
	case 8:
		return swap(`"s":`, `"NOBODY"`)
	case 9:
		return `{"e":"somethingNew","E":1}`
	case 10:
		return `{"stream":"` + m.lower + `@newKind","data":{"e":"newKind"}}`
	}
	return "\x00\xff"
}
