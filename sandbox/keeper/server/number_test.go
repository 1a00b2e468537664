package server

import "testing"

// An adopted process was another's child: when its end is seen, its number may be that of a child of ours, whose end must not be missed.
func TestNumberOfAnAdoptedProcessGoesToAChild(t *testing.T) {
	tab := newTable(nil)
	adopted, child := &entry{key: "adopted", process: &process{pid: 4711}}, &entry{key: "child", process: &process{pid: 4711}}
	tab.byPID[4711] = child
	tab.died(adopted, death{})
	if tab.byPID[4711] != child {
		t.Error("the child's end would be nobody's")
	}
	tab.died(child, death{})
	if len(tab.byPID) > 0 {
		t.Error("the child that has ended is still one that runs")
	}
}
