// Package table prints the tables of the examples.
package table

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Table is a row of titles and rows of cells.
type Table struct {
	rows [][]string
	wide []int  // by column, characters
	text []bool // by column: aligned to the left
}

// New returns a table with the titles of its columns.
func New(titles ...string) *Table {
	return &Table{rows: [][]string{titles}, wide: make([]int, len(titles)), text: make([]bool, len(titles))}
}

// Row adds a row of at most as many cells as there are titles, each printed as by fmt.Sprint. A
// column of numbers is aligned to the right.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
		k := reflect.ValueOf(c).Kind()
		t.text[i] = t.text[i] || k < reflect.Int || k > reflect.Float64
	}
	t.rows = append(t.rows, row)
}

// Print writes the table, indented by two spaces.
func (t *Table) Print(w io.Writer) {
	for _, row := range t.rows {
		for i, c := range row {
			t.wide[i] = max(t.wide[i], utf8.RuneCountInString(c))
		}
	}
	for _, row := range t.rows {
		line := ""
		for i, c := range row {
			pad := strings.Repeat(" ", t.wide[i]-utf8.RuneCountInString(c))
			if t.text[i] {
				line += "  " + c + pad
			} else {
				line += "  " + pad + c
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
