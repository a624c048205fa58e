package main

// picture shows the plan.
const picture = `
  host1                                     host2
  ┌──────────────────────────────────┐      ┌──────────────────────────────────┐
  │ rnd-1 ─── switch rnd ─── rnd-2   │      │                                  │
  │                                  │      │                                  │
  │ host-1 ── switch mgmt ── eth1 ───┼──┐ ┌─┼─── eth1 ── switch mgmt ── host-2 │
  │                                  │  │ │ │                                  │
  │ sales-1    VLAN 2 ─┐             │  │ │ │             ┌─ VLAN 2    sales-2 │
  │ finance-1  VLAN 3 ─┼ switch vms  │  │ │ │  switch vms ┼─ VLAN 3  finance-2 │
  │ hr-1       VLAN 4 ─┘  │          │  │ │ │          │  └─ VLAN 4       hr-2 │
  │                      eth0        │  │ │ │        eth0                      │
  └───────────────────────┼──────────┘  │ │ └──────────┼───────────────────────┘
                    trunk │    access 9 │ │ access 9   │ trunk
                      2-4 │             │ │            │ 2-4
  ┌───────────────────────┴─────────────┴─┴────────────┴───────────────────────┐
  │                              physical switch                               │
  └───────┬──────────────────┬──────────────────┬──────────────────┬───────────┘
  access 2│          access 3│          access 4│          access 9│
      sales-srv        finance-srv            hr-srv             admin
`
