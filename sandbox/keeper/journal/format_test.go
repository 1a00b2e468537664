package journal

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const stamp = "2016-10-06T00:17:09.669794202Z"

func formatter(t testing.TB, maxLine int) *Formatter {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFormatter("stdout", maxLine)
	f.setTime(at.In(time.FixedZone("elsewhere", 7200)))
	return f
}

func TestFormat(t *testing.T) {
	for name, c := range map[string]struct {
		raw   string
		rest  bool
		want  []string // tag and text
		taken int
	}{
		"nothing":                    {"", true, nil, 0},
		"a line":                     {"hello\n", false, []string{"F hello"}, 6},
		"an empty line":              {"\n", false, []string{"F "}, 1},
		"lines":                      {"a\nb\n\nc\n", false, []string{"F a", "F b", "F ", "F c"}, 7},
		"unfinished stays":           {"a\nbc", false, []string{"F a"}, 2},
		"unfinished at the end":      {"a\nbc", true, []string{"F a", "P bc"}, 4},
		"a line of the most":         {"12345678\n", false, []string{"F 12345678"}, 9},
		"the most stays":             {"12345678", false, nil, 0},
		"one more is cut":            {"123456789", false, []string{"P 12345678"}, 8},
		"a long line":                {"123456781234567812\n", false, []string{"P 12345678", "P 12345678", "F 12"}, 19},
		"cut before its newline":     {"1234567812345678\n", false, []string{"P 12345678", "F 12345678"}, 17},
		"the most, at the end":       {"12345678", true, []string{"P 12345678"}, 8},
		"carriage return, zero kept": {"a\r\n\x00\xff\n", false, []string{"F a\r", "F \x00\xff"}, 6},
	} {
		out, taken := formatter(t, 8).Format(make([]byte, 0, 4096), []byte(c.raw), c.rest)
		var want string
		for _, w := range c.want {
			want += stamp + " stdout " + w + "\n"
		}
		if string(out) != want || taken != c.taken {
			t.Errorf("%s: %q, %d taken; want %q, %d", name, out, taken, want, c.taken)
		}
	}
}

func TestFormatStopsAtCapacity(t *testing.T) {
	f := formatter(t, 8)
	out, taken := f.Format(make([]byte, 0, 2*len(stamp+" stdout F ab\n")+5), []byte("ab\ncd\nef\n"), true)
	if taken != 6 || strings.Count(string(out), "\n") != 2 {
		t.Errorf("%q, %d taken", out, taken)
	}
}

// FuzzFormat: every byte is in exactly one entry, in whatever portions it arrives, and what was taken
// formats to the same entries again.
func FuzzFormat(f *testing.F) {
	f.Add([]byte("hello\nworld"), uint8(3), uint16(200))
	f.Add([]byte("\n\n\n123456789123456789\n1"), uint8(8), uint16(90))
	f.Fuzz(func(t *testing.T, raw []byte, maxLine uint8, room uint16) {
		fm := formatter(t, int(maxLine)+1)
		var entries []byte
		for done := 0; done < len(raw); {
			dst := make([]byte, 0, max(int(room), fm.entryMax()))
			out, taken := fm.Format(dst, raw[done:], true)
			if taken == 0 {
				t.Fatal("no progress")
			}
			again, n := fm.Format(make([]byte, 0, len(out)), raw[done:done+taken], true)
			if n != taken || !bytes.Equal(again, out) {
				t.Fatalf("%q formats to %q, then to %q", raw[done:done+taken], out, again)
			}
			entries, done = append(entries, out...), done+taken
		}
		if got := unformat(t, entries); !bytes.Equal(got, raw) {
			t.Fatalf("%q came back as %q", raw, got)
		}
	})
}

// unformat joins the texts of stdout's entries.
func unformat(t testing.TB, log []byte) []byte {
	t.Helper()
	var raw []byte
	for len(log) > 0 {
		entry, rest, ok := bytes.Cut(log, []byte("\n"))
		if !ok || len(entry) < len(stamp)+10 || string(entry[len(stamp):len(stamp)+8]) != " stdout " {
			t.Fatalf("bad entry %q", entry)
		}
		tag, text := entry[len(stamp)+8], entry[len(stamp)+10:]
		raw = append(raw, text...)
		if tag == 'F' {
			raw = append(raw, '\n')
		}
		log = rest
	}
	return raw
}

func BenchmarkFormat100ByteLines(b *testing.B) {
	raw := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), batchRaw/100)
	f := formatter(b, DefaultMaxLine)
	dst := make([]byte, 0, batchOut)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		f.setTime(time.Now())
		for done := 0; done < len(raw); {
			_, taken := f.Format(dst, raw[done:], false)
			done += taken
		}
	}
}
