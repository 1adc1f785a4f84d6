// Package endure lets a whole desk run for as long as it is told, with the faults of everyday life, and looks at what
// must not grow: memory, goroutines, open files, the disk. It is a test and nothing else; make endure runs it.
package endure
