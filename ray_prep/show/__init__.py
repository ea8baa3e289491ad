"""What a person looks at: contact sheets, explanations, plans and reports."""
