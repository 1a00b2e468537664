package cgroup

import (
	"strconv"
	"testing"
	"time"
)

func BenchmarkCreate(b *testing.B) {
	tree, parent, _ := realTree(b)
	keep, err := tree.Create(parent+"/pod/keep", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer remove(b, tree, keep)
	r := typical()
	ctx := within(b, time.Minute)
	i := 0
	for b.Loop() {
		i++
		g, err := tree.Create(parent+"/pod/c"+strconv.Itoa(i), r)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := g.Delete(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkCreateDelete(b *testing.B) {
	tree, parent, _ := realTree(b)
	keep, err := tree.Create(parent+"/pod/keep", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer remove(b, tree, keep)
	r := typical()
	ctx := within(b, time.Minute)
	i := 0
	for b.Loop() {
		i++
		g, err := tree.Create(parent+"/pod/c"+strconv.Itoa(i), r)
		if err == nil {
			err = g.Delete(ctx)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
