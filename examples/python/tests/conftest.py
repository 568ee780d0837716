import asyncio


async def turns(count: int = 3) -> None:
    """Lets every task run that can."""
    for _ in range(count):
        await asyncio.sleep(0)
