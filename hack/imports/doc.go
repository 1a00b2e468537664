// Package imports holds the tree against its walls: which package may import which
// (Edges), which libraries belong to which rooms (Libraries), and what must never be
// linked into berth-keeper. Its test fails on an import that no line allows, and on
// a line that nothing uses any more, or that stands twice. Beside that it holds the
// keys of log events to a list (log_test.go).
package imports
