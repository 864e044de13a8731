"""What a listener does all day: hears of jobs, claims them, keeps their leases, erases, tidies."""
